"""The examples in docs/ci work as they are, and the documents name only what exists."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import onnx
import pytest

from onnxmi.cli import main
from onnxmi.evaluation.metrics import METRICS
from onnxmi.evaluation.output_metrics import OUTPUT_METRICS

DOCS = Path(__file__).resolve().parents[2] / "docs"
CI = DOCS / "ci"


@pytest.fixture
def project(tmp_path, place, mlp):
    """A folder as the examples expect it; the deployed model is the dense one with other names inside."""
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy("data.npz", models / "eval.npz")
    onnx.save(mlp(), models / "dense.onnx")
    onnx.save(mlp(prefix="other."), models / "deployed.onnx")
    for path in CI.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path / path.name)
    return tmp_path


def test_the_configuration_is_taken(project, place):
    result = place.run("--config", "onnxmi.toml", "--min-speedup", "0", "--seconds", "0.1")
    assert (result.exit_code, result.stderr) == (0, "")
    for limit in tomllib.loads((CI / "onnxmi.toml").read_text())["check"]:
        assert not limit.startswith(("max", "min")) or limit in result.stdout


def test_the_pytest_example_runs(project):
    """Equal models are not 1.5 times as fast as each other: that one fails, and says what was measured."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_model.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    assert "1 failed, 4 passed" in done.stdout
    assert "asked at least 1.50x, measured" in done.stdout


@pytest.mark.parametrize(
    "path",
    [CI / "github-workflow.yml", CI / "pre-commit-config.yaml", DOCS / "gate.md", DOCS / "quantize.md"],
    ids=lambda path: path.name,
)
def test_commands_have_only_options_that_exist(path):
    lines = re.findall(
        r"^(?: {4}|.*?(?:run|entry): |.*`)(onnxmi (?:check|bench) [^`\n]*)", path.read_text(), re.MULTILINE
    )
    assert lines
    for line in lines:
        name, *words = shlex.split(line)[1:]
        options = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert {word.strip("[]") for word in words if word.strip("[").startswith("--")} <= options


def test_every_metric_is_documented():
    text = (DOCS / "gate.md").read_text()
    assert all(f"`{name}`" in text for name in (*METRICS, *OUTPUT_METRICS))
