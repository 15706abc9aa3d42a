"""The deployed model keeps to its limits: a test for a project that has pytest."""

from pathlib import Path

import pytest

import onnxmi

MODELS = Path("models")
CHECKS = ("interface", "runs", "max-size", "min-speedup", "max-drop")


@pytest.fixture(scope="module")
def report() -> onnxmi.Report:
    """Measure once."""
    return onnxmi.check(
        MODELS / "deployed.onnx",
        baseline=MODELS / "dense.onnx",
        data=MODELS / "eval.npz",
        max_size="12MB",
        min_speedup="1.5x",
        max_drop="1%",
        threads=1,
        clock="cpu",
    )


@pytest.mark.parametrize("name", CHECKS)
def test_the_model_keeps_to_its_limits(report: onnxmi.Report, name: str) -> None:
    """One test for each check, so that a build names what failed."""
    (verdict,) = (verdict for verdict in report.verdicts if verdict.name == name)
    assert verdict.passed, f"asked {verdict.asked}, measured {verdict.measured} {verdict.detail}"
