"""Nothing to prune is an exit code of its own, or the same model again, as the user wants it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from onnxmi import load

RUN = ("prune", "model.onnx", "calib.npz", "--allow-unchanged")
PRUNE = (*RUN, "--keep", "0.5")
OUT, PLAN = "model.pruned.onnx", "model.pruned.plan.json"


@pytest.fixture
def bare(place, mlp):
    """A model whose only axes are those of its input and output."""
    onnx.save(mlp(sizes=(6, 4)), place.folder / "model.onnx")
    return place


def test_the_same_bytes_and_a_plan_that_cuts_nothing(bare):
    text = bare.succeeds(*PRUNE)
    assert text.startswith("nothing to prune: ")
    assert f"wrote {OUT}, the same as the original" in text
    assert bare.contents()[OUT] == bare.contents()["model.onnx"]
    assert json.loads(bare.contents()[PLAN])["layers"] == []
    assert "keeps every unit" in bare.fails(1, "apply", "model.onnx", PLAN, "-o", "again.onnx")


def test_as_json(bare):
    told = json.loads(bare.succeeds(*PRUNE, "--json"))
    assert (told["output"], told["plan"], told["unchanged"]) == (OUT, PLAN, True)
    assert told["reason"].startswith("nothing to prune: ")


def test_bytes_that_protobuf_would_write_in_another_way_stay(bare):
    path = bare.folder / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\x08\x0a")  # the IR version once more, at the end
    bare.succeeds(*PRUNE)
    assert bare.contents()[OUT] == path.read_bytes()


@pytest.mark.parametrize("more", [("--keep", "1"), ("--skip", "*"), ("--cut", "heads")], ids=lambda more: more[0])
def test_whatever_the_reason(place, more):
    place.succeeds(*PRUNE, *more)
    assert place.contents()[OUT] == place.contents()["model.onnx"]


def test_a_plan_that_keeps_all(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5")
    plan = json.loads(place.contents()[PLAN])
    for layer in plan["layers"]:
        layer["kept"] = list(range(layer["size"]))
    (place.folder / "all.json").write_text(json.dumps(plan))
    place.succeeds(*RUN, "--plan", "all.json")
    assert place.contents()[OUT] == place.contents()["model.onnx"]


def test_external_data_is_copied(place, mlp):
    path = place.folder / "model.onnx"
    onnx.save(mlp((6, 60, 50, 4)), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    place.succeeds(*PRUNE, "--keep", "1")
    (place.folder / "weights.bin").unlink()
    assert load(place.folder / OUT).proto == mlp((6, 60, 50, 4))


def test_what_can_be_pruned_is(place):
    place.succeeds(*PRUNE)
    assert place.contents()[OUT] != place.contents()["model.onnx"]


def test_a_bad_file_is_still_refused(bare):
    np.savez(bare.folder / "calib.npz", z=np.ones((4, 6)))
    bare.fails(3, *PRUNE)
