"""The deployed model keeps to its limits: a test for a project that has pytest."""

from pathlib import Path

import pytest

from onnxmi.gate.check import CheckOptions, Report, check

MODELS = Path("models")
LIMITS = {"max-size": 12e6, "min-speedup": 1.5, "max-drop": 0.01}  # bytes, a ratio, points of the metric


@pytest.fixture(scope="module")
def report() -> Report:
    """Measure once."""
    options = CheckOptions(
        limits=LIMITS, baseline=MODELS / "dense.onnx", data=MODELS / "eval.npz", threads=1, clock="cpu"
    )
    return check(MODELS / "deployed.onnx", options)


@pytest.mark.parametrize("name", ["interface", "runs", *LIMITS])
def test_the_model_keeps_to_its_limits(report: Report, name: str) -> None:
    """One test for each check, so that a build names what failed."""
    (verdict,) = (verdict for verdict in report.verdicts if verdict.name == name)
    assert verdict.passed, f"asked {verdict.asked}, measured {verdict.measured} {verdict.detail}"
