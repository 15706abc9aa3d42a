"""`onnxmi diff`: what is different between two models."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxmi


@pytest.fixture
def pruned(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--threads", "1", "-o", "small.onnx")
    return place


def data(place, *args):
    return json.loads(place.succeeds("diff", *args, "--json"))


def test_a_model_does_not_differ_from_itself(place):
    found = data(place, "model.onnx", "model.onnx")
    assert found["empty"]
    assert (found["layers"], found["operators"], found["interface"]) == ([], {}, [])
    assert found["distances"] == [{"name": "y", "relative": 0.0, "largest": 0.0}]
    assert "no difference" in place.succeeds("diff", "model.onnx", "model.onnx")


def test_a_pruned_model_has_fewer_units(pruned):
    found = data(pruned, "model.onnx", "small.onnx", "--data", "calib.npz")
    plan = json.loads((pruned.folder / "small.plan.json").read_text())
    cut = {layer["name"]: (layer["size"], len(layer["kept"])) for layer in plan["layers"]}
    assert {change["name"]: (change["before"], change["after"]) for change in found["layers"]} == cut
    before, after = found["costs"]
    assert after["size"] == (pruned.folder / "small.onnx").stat().st_size < before["size"]
    assert after["macs"] < before["macs"]
    assert [output["name"] for output in found["outputs"]] == ["y"]
    assert found["distances"][0]["relative"] > 0


def test_other_values_are_told_from_other_shapes(place):
    model = onnx.load(place.folder / "model.onnx")
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(1.5 * numpy_helper.to_array(weight), weight.name))
    onnx.save(model, place.folder / "other.onnx")
    found = data(place, "model.onnx", "other.onnx")
    stored = len(model.graph.initializer)
    assert found["tensors"] == {"same": stored - 1, "values": 1, "shape": 0, "gone": 0, "new": 0}
    assert not found["empty"]


def test_another_interface_is_said_and_nothing_is_compared(place, mlp):
    model = mlp()
    model.graph.output[0].name = model.graph.node[-1].output[0] = "other"
    onnx.save(model, place.folder / "other.onnx")
    found = data(place, "model.onnx", "other.onnx", "--data", "calib.npz")
    assert found["interface"] == ["outputs y became other"]
    assert (found["distances"], found["outputs"]) == ([], [])
    assert found["notes"][0].startswith("the outputs are not compared")


def test_a_missing_file_is_one_line(place):
    assert place.fails(3, "diff", "model.onnx", "none.onnx").startswith("none.onnx: ")


def test_from_python(pruned):
    before, after = (onnx.load(pruned.folder / name) for name in ("model.onnx", "small.onnx"))
    found = onnxmi.diff(before, after, data={"x": np.load(pruned.folder / "calib.npz")["x"]}, threads=1)
    assert "Layers that differ" in str(found)
    assert found.compared is not None
    assert found.to_dict()["same_layers"] == 0


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_the_terminal(pruned, columns):
    text = pruned.succeeds("diff", "model.onnx", "small.onnx", columns=columns)
    assert max(map(len, text.splitlines())) <= columns
