"""`onnxmi prune --quantize` from the command line, on a bundled model."""

from __future__ import annotations

import json
import shutil

import onnxruntime
import pytest

MODEL = ("digits-mlp.onnx", "digits-mlp.calib.npz")


@pytest.fixture
def mlp(place, bundled):
    for name in MODEL:
        shutil.copy(bundled / name, place.folder)
    return place


def test_a_quantized_result_is_written_with_its_plan_and_replayed_to_the_same_bytes(mlp):
    told = mlp.succeeds("prune", *MODEL, "--keep", "0.5", "--quantize", "static", "--threads", "1", "-o", "a.onnx")
    assert "What each step did" in told
    assert "quantized: static" in " ".join(told.split())
    plan = json.loads((mlp.folder / "a.plan.json").read_text())
    assert plan["quantization"]["mode"] == "static"
    assert plan["quantization"]["ranges"]
    assert plan["options"]["quantize"] == "static"
    mlp.succeeds("prune", *MODEL, "--plan", "a.plan.json", "--threads", "1", "-o", "b.onnx")
    assert (mlp.folder / "b.onnx").read_bytes() == (mlp.folder / "a.onnx").read_bytes()
    for name in ("c.onnx", "d.onnx"):
        mlp.succeeds("apply", MODEL[0], "a.plan.json", "-o", name)
    assert (mlp.folder / "c.onnx").read_bytes() == (mlp.folder / "d.onnx").read_bytes()
    session = onnxruntime.InferenceSession(mlp.folder / "b.onnx")
    assert [value.name for value in session.get_inputs()] == ["image"]


def test_json_has_the_steps(mlp):
    told = json.loads(
        mlp.succeeds("prune", *MODEL, "--keep", "0.5", "--quantize", "dynamic", "--threads", "1", "--json")
    )
    assert [step["name"] for step in told["quantization"]["steps"]] == ["original", "pruned", "pruned, 8-bit"]
    assert all(step["speedup"] > 0 for step in told["quantization"]["steps"][1:])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"mode": "binary"}, "a.plan.json: `quantization` has the mode 'binary'; there are: dynamic, static"),
        ({"int8": ["nowhere"]}, "the plan quantizes operator 'nowhere', which this model does not have"),
    ],
)
def test_a_wrong_recipe_in_a_plan_is_one_line(mlp, edit, message):
    mlp.succeeds("prune", *MODEL, "--keep", "0.5", "--quantize", "dynamic", "--threads", "1", "-o", "a.onnx")
    path = mlp.folder / "a.plan.json"
    plan = json.loads(path.read_text())
    plan["quantization"].update(edit)
    path.write_text(json.dumps(plan))
    assert message in mlp.fails(3, "apply", MODEL[0], "a.plan.json", "-o", "b.onnx")


def test_a_plan_that_quantizes_takes_no_other_way(mlp):
    mlp.succeeds("prune", *MODEL, "--keep", "0.5", "--quantize", "dynamic", "--threads", "1", "-o", "a.onnx")
    said = mlp.fails(2, "prune", *MODEL, "--plan", "a.plan.json", "--quantize", "auto", "-o", "b.onnx")
    assert said == "the plan says how to quantize: --quantize cannot be combined with it"


def test_a_wrong_mode_is_a_usage_error(mlp):
    assert "'int8' is not one of 'none', 'dynamic', 'static', 'weights', 'auto'" in mlp.fails(
        2, "prune", *MODEL, "--quantize", "int8"
    )


def test_float16_storage_has_an_option_of_its_own(mlp):
    mlp.succeeds("prune", *MODEL, "--keep", "0.5", "--half", "--threads", "1", "-o", "a.onnx")
    assert json.loads((mlp.folder / "a.plan.json").read_text())["quantization"]["mode"] == "half"
    message = mlp.fails(2, "prune", *MODEL, "--half", "--quantize", "auto")
    assert message.startswith("--half and --quantize both say how")
