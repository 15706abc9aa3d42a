"""External data that is damaged, or that would be read from where it must not be."""

from __future__ import annotations

import os

import onnx
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data

from onnxmi import load
from onnxmi.errors import ModelError
from onnxmi.model.external_location import ExternalLocation


@pytest.fixture
def model(tmp_path, mlp):
    """A model whose weights lie in `weights.bin` beside it."""
    path = tmp_path / "m.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def change(path, **entries):
    """Set or (None) remove entries of the first tensor's external data."""
    proto = onnx.load(path, load_external_data=False)
    tensor = proto.graph.initializer[0]
    kept = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in kept.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


PLACES = {
    "beyond the end": ({"offset": "100000"}, "ends at byte 100,288 of 'weights.bin'"),
    "far beyond the end": ({"offset": str(2**62)}, "ends at byte"),
    "longer than the shape": ({"length": "292"}, "has 292 bytes; its shape [6, 12] takes 288"),
    "shorter than the shape": ({"length": "284"}, "has 284 bytes"),
    "oversized": ({"length": str(2**62)}, "its shape [6, 12] takes 288"),
    "negative offset": ({"offset": "-4"}, "'-4', which is not a number of bytes"),
    "negative length": ({"length": "-288"}, "'-288', which is not a number of bytes"),
    "not a number": ({"offset": "0x10"}, "'0x10', which is not a number of bytes"),
    "endless number": ({"offset": "9" * 5000}, "which is not a number of bytes"),
    "digits of another script": ({"offset": "٣"}, "which is not a number of bytes"),
    "a part of another": ({"offset": "4"}, "'w0' and 'b0' overlaps in 'weights.bin'"),
    "no location": ({"location": None}, "lies outside the model's folder"),
    "upwards": ({"location": "../weights.bin"}, "lies outside the model's folder"),
    "upwards and down": ({"location": "../../etc/hostname"}, "lies outside the model's folder"),
    "absolute": ({"location": "/etc/hostname"}, "lies outside the model's folder"),
    "the folder": ({"location": "."}, "lies outside the model's folder"),
    "NUL": ({"location": "weights\0.bin"}, "is not a file name"),
    "missing": ({"location": "other.bin"}, "'other.bin' is missing"),
    "a device": ({"location": "pipe"}, "'pipe' is missing"),
    "a link out of the folder": ({"location": "link"}, "lies outside the model's folder"),
    "a linked folder": ({"location": "linked/hostname"}, "lies outside the model's folder"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_bad_places_are_refused(model, kind):
    entries, message = PLACES[kind]
    os.mkfifo(model.parent / "pipe")
    (model.parent / "link").symlink_to("/etc/hostname")
    (model.parent / "linked").symlink_to("/etc")
    change(model, **entries)
    with pytest.raises(ModelError) as caught:
        load(model)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_may_be_shared(model):
    proto = onnx.load(model, load_external_data=False)
    twin = proto.graph.initializer.add()
    twin.CopyFrom(proto.graph.initializer[0])
    twin.name = "twin"
    model.write_bytes(proto.SerializeToString())
    graph = load(model).graph
    assert (graph.constant("twin") == graph.constant("w0")).all()


def test_a_folder_below_and_a_link_in_the_folder_are_fine(model):
    (model.parent / "data").mkdir()
    (model.parent / "weights.bin").rename(model.parent / "data" / "real.bin")
    (model.parent / "weights.bin").symlink_to("data/real.bin")
    before = load(model).graph.constant("w0")
    change(model, location="data/real.bin")
    assert (load(model).graph.constant("w0") == before).all()


def test_a_file_that_shrinks_while_it_is_read(model, monkeypatch):
    monkeypatch.setattr(
        ExternalLocation, "end", property(lambda _: os.truncate(model.parent / "weights.bin", 100) or 0)
    )
    with pytest.raises(ModelError, match=r"'weights\.bin' cannot be read: it became shorter"):
        load(model)


def sparse(location):
    values = TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[2], raw_data=b"\0" * 8)
    set_external_data(values, location, 0, 8)
    values.ClearField("raw_data")
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 1])
    return helper.make_sparse_tensor(values, indices, [6])


@pytest.mark.parametrize("where", ["initializer", "attribute"])
def test_sparse_tensors_are_not_read_from_elsewhere(model, where):
    """onnxruntime would look for them in the current folder."""
    proto = onnx.load(model, load_external_data=False)
    if where == "initializer":
        proto.graph.sparse_initializer.append(sparse("../elsewhere"))
    else:
        proto.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse("../elsewhere")))
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        load(model)
