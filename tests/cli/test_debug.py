"""An error that nobody foresaw says where it comes from, and a bundle tells the rest without weights and samples."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxmi.budget import damage_curves
from onnxmi.errors import InvariantError, Stage, place_of, stage, stages_of
from onnxmi.graph import infer as inference
from onnxmi.model.structure import structure_of
from onnxmi.repair import stepwise

RUN = ("prune", "model.onnx", "calib.npz")


def broken(*_args, **_kwargs):
    raise ZeroDivisionError("two words")


def test_an_exception_keeps_the_stages_that_it_leaves():
    @stage("outer")
    def work() -> None:
        with stage("inner", "Gemm_1"), stage("innermost"):
            raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        work()
    assert stages_of(caught.value) == (Stage("innermost"), Stage("inner", "Gemm_1"), Stage("outer"))
    assert place_of(caught.value) == "innermost, Gemm_1"
    assert place_of(ValueError()) == ""


@pytest.mark.parametrize(
    ("where", "name", "budget", "stage_named"),
    [
        (damage_curves, "_damage", "--macs", "price"),
        (stepwise._Walk, "step", "--keep", "repair"),
        (inference._Inference, "_run_rule", "--keep", "axes"),
    ],
)
def test_the_line_of_a_bug_names_the_stage_and_the_operator(place, monkeypatch, where, name, budget, stage_named):
    monkeypatch.setattr(where, name, broken)
    message = place.fails(4, *RUN, budget, "0.5")
    labels = {node.name for node in onnx.load(place.folder / "model.onnx").graph.node}
    start, at = message.split(": ")[1].split(", ")
    assert start == stage_named
    assert at in labels
    assert message.endswith(
        "ZeroDivisionError: two words; run again with --debug FILE to make a bundle that you can send"
    )


def test_a_contradiction_is_a_bug_too(place, monkeypatch):
    def contradicts(*_args, **_kwargs):
        raise InvariantError("one and one is three")

    monkeypatch.setattr(damage_curves, "_damage", contradicts)
    assert place.fails(4, *RUN, "--macs", "0.5").startswith("a bug in onnxmi: price, ")


def bundle(place, name="bundle.zip"):
    with zipfile.ZipFile(place.folder / name) as archive:
        return {entry: archive.read(entry).decode() for entry in archive.namelist()}


def test_a_bundle_tells_all_but_weights_and_samples(place, monkeypatch):
    monkeypatch.setattr(damage_curves, "_damage", broken)
    result = place.run(*RUN, "--macs", "0.5", "--debug", "bundle.zip")
    assert result.exit_code == 4
    assert result.stderr.endswith("two words; please send bundle.zip\n")
    found = bundle(place)
    told, files = json.loads(found["run.json"]), json.loads(found["files.json"])
    assert told["command"] == "onnxmi prune model.onnx calib.npz --macs 0.5 --debug bundle.zip --overwrite"
    assert told["options"]["macs"] == "0.5"
    assert {"onnxmi", "onnxruntime", "python"} <= told["versions"].keys()
    assert [entry["name"] for entry in told["stages"]] == ["price", "price"]
    assert "ZeroDivisionError: two words" in found["traceback.txt"]
    proto = onnx.load(place.folder / "model.onnx")
    nodes = files["model.onnx"]["graph"]["nodes"]
    assert [node["op"] for node in nodes] == [node.op_type for node in proto.graph.node]
    assert files["calib.npz"]["x"] == {"type": "float32", "shape": [40, 6]}
    assert set(files["model.onnx"]["graph"]["stored"][0]) == {"name", "type", "shape"}


@pytest.mark.parametrize(
    "command",
    [
        (*RUN, "--keep", "0.5"),
        ("sweep", "model.onnx", "calib.npz", "--by", "macs", "--at", "0.7"),
        ("capture", "model.onnx", "calib.npz", "-o", "found.npz"),
        ("inspect", "model.onnx"),
        ("check", "model.onnx", "--max-size", "1MB"),
        ("bench", "model.onnx", "--seconds", "0.1", "--no-memory"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_writes_one_however_it_ends(place, command):
    assert place.run(*command, "--debug", "bundle.zip").exit_code == 0
    assert json.loads(bundle(place)["run.json"])["outcome"] == "done"
    (place.folder / "model.onnx").write_bytes(b"no model")
    assert place.run(*command, "--debug", "bundle.zip").exit_code == 3
    found = bundle(place)
    assert json.loads(found["run.json"])["outcome"] == "ModelError"
    assert "unreadable" in json.loads(found["files.json"])["model.onnx"]


@pytest.mark.parametrize("name", ["model.onnx", "calib.npz"])
def test_it_is_not_written_over_a_file_of_the_run(place, name):
    assert "is also a file of the run" in place.fails(2, *RUN, "--keep", "0.5", "--debug", name)


def test_no_number_that_was_learned_is_in_a_structure():
    secret = np.full((3, 5), 0.123456, np.float32)
    attributes = [
        helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(secret)),
        helper.make_node("Constant", [], ["b"], value_floats=[0.123456]),
        helper.make_node("Constant", [], ["c"], value_float=0.123456),
        helper.make_node("LinearRegressor", ["x"], ["d"], domain="ai.onnx.ml", coefficients=[0.123456] * 5),
        helper.make_node("If", ["x"], ["e"], then_branch=inner(secret), else_branch=inner(secret)),
        helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], auto_pad="NOTSET"),
    ]
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(attributes, "g", [info], [], [numpy_helper.from_array(secret, "w")])
    text = json.dumps(structure_of(helper.make_model(graph)))
    assert "0.123" not in text
    assert '"pads": [1, 1, 1, 1]' in text
    assert '"shape": ["N", 3]' in text


def inner(secret: np.ndarray) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [numpy_helper.from_array(secret, "hidden")])
