"""`onnxmi check --between`: the same is measured of the models on the way, and nothing is asked of them."""

from __future__ import annotations

import json

import onnx
import pytest

import onnxmi

STEPS = ("new.onnx", "--baseline", "old.onnx", "--between", "half.onnx", "--data", "data.npz")


@pytest.fixture
def steps(place, mlp):
    """A model between the two that is larger than both, and wrong."""
    onnx.save(mlp((6, 31, 5, 4)), place.folder / "half.onnx")
    return place


def test_a_step_is_measured_as_the_model_is_and_never_fails(steps) -> None:
    size = (steps.folder / "half.onnx").stat().st_size
    told = json.loads(steps.passes(*STEPS, "--max-size", str(size - 1), "--max-drop", "1", "--json"))
    assert told["passed"]
    (step,) = told["steps"]
    checks = {check["name"]: check for check in step["checks"]}
    assert step["model"] == "half.onnx"
    assert (checks["max-size"]["value"], checks["max-size"]["passed"]) == (size, False)
    alone = json.loads(steps.run("half.onnx", *STEPS[1:3], *STEPS[5:], "--max-drop", "1", "--json").stdout)
    assert checks["max-drop"]["value"] == alone["checks"][-1]["value"]


def test_the_table_has_a_row_for_each_step(steps) -> None:
    told = steps.passes(*STEPS, "--max-size", "1MB", "--max-drop", "1", "--markdown", "page.md")
    table = told[told.index("What each step did") :]
    assert table.index("half.onnx") < table.index("new.onnx")
    assert "| half.onnx |" in (steps.folder / "page.md").read_text(encoding="utf-8")
    assert "What each step did" not in steps.passes(*STEPS[:3], *STEPS[5:], "--max-size", "1MB")


def test_steps_need_something_to_begin_with(steps) -> None:
    message = steps.refuses(2, "new.onnx", "--between", "half.onnx", "--max-size", "1MB")
    assert message == "--between needs --baseline: it is where the steps begin"


def test_samples_that_are_read_once_serve_all_steps(steps, samples) -> None:
    feeds = iter([{"x": row[None]} for row in samples(23)])
    report = onnxmi.check("new.onnx", baseline="old.onnx", between=["half.onnx"], data=feeds, max_drop=1.0)
    assert [len(step.outputs) for step in (*report.steps, report)] == [1, 1]
