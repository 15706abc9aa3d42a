"""Damaged, impossible and hostile models: one line, exit code 3, nothing written; and what is odd but right goes on."""

from __future__ import annotations

import subprocess

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxmi
from onnxmi.errors import ModelError
from onnxmi.model import Model
from tests.cli.conftest import Workplace
from tests.trust.bad_models import SPOILED, custom, input_dim, weight, zero_width


@pytest.fixture
def place(tmp_path, monkeypatch, samples) -> Workplace:
    np.savez(tmp_path / "calib.npz", x=samples())
    return Workplace(tmp_path, monkeypatch)


@pytest.fixture
def spoiled(place, mlp):
    def spoil(change):
        proto = mlp()
        change(proto)
        (place.folder / "bad.onnx").write_bytes(proto.SerializeToString())
        return proto

    return spoil


@pytest.mark.parametrize("kind", SPOILED)
def test_bad_models_are_refused(place, spoiled, kind):
    change, message = SPOILED[kind]
    spoiled(change)
    said = place.fails(3, "prune", "bad.onnx", "calib.npz", "--keep", "0.5")
    assert message in said
    assert "/onnxruntime_src" not in said


@pytest.mark.parametrize("kind", [kind for kind in SPOILED if kind != "infinite weight"])  # seen on samples only
def test_bad_models_are_refused_by_inspect(place, spoiled, kind):
    spoiled(SPOILED[kind][0])
    place.fails(3, "inspect", "bad.onnx")


@pytest.mark.parametrize("name", [b"w0", b"fc0", b"h0", b"batch", b"Gemm", b"mlp"])
def test_names_that_are_no_text(place, spoiled, name):
    """protobuf reads them, and objects only when somebody looks."""
    data = spoiled(lambda _: None).SerializeToString()
    (place.folder / "bad.onnx").write_bytes(data.replace(name, b"\xe5" * len(name)))
    assert "is not UTF-8" in place.fails(3, "prune", "bad.onnx", "calib.npz", "--keep", "0.5")


def test_a_model_in_memory_is_looked_at_as_well(mlp):
    proto = mlp()
    custom(proto)
    with pytest.raises(ModelError, match=r"custom domain 'acme\.ops'"):
        Model.of(proto)


def test_a_pipe_is_not_waited_for(place):
    subprocess.run(["mkfifo", place.folder / "pipe"], check=True)
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), place.folder / "model.onnx")
    assert place.fails(3, "inspect", "pipe") == "pipe: is not a regular file"


def test_a_layer_without_units_is_left_alone(place, spoiled):
    spoiled(zero_width)
    place.succeeds("prune", "bad.onnx", "calib.npz", "--keep", "0.5")
    cut = onnx.load(place.folder / "bad.pruned.onnx")
    assert sorted(tuple(tensor.dims) for tensor in cut.graph.initializer if len(tensor.dims) == 2) == [
        (0, 5),
        (5, 4),
        (6, 0),
    ]


def test_a_negative_size_is_an_unknown_one(place, spoiled):
    spoiled(input_dim(-1))
    place.succeeds("prune", "bad.onnx", "calib.npz", "--keep", "0.5")


def test_infinity_is_allowed_where_nothing_is_measured(place, spoiled):
    """Masks hold it."""

    def clip(proto):
        proto.graph.initializer.append(numpy_helper.from_array(np.array([-np.inf], np.float32), "low"))
        proto.graph.node.insert(1, helper.make_node("Max", ["h0", "low"], ["h0.max"]))
        proto.graph.node[2].input[0] = "h0.max"

    spoiled(clip)
    place.succeeds("prune", "bad.onnx", "calib.npz", "--keep", "0.5")


def test_a_single_nan_is_allowed(mlp):
    proto = mlp()
    proto.graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "nothing"))
    assert Model.of(proto).graph.constant("nothing") != 0


def test_outputs_without_a_shape_are_allowed(mlp):
    proto = mlp()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert onnxmi.analyse(proto).graph.layers


def test_operators_that_onnxruntime_puts_into_the_standard_domain_are_allowed(mlp):
    """Its fusions write LayerNormalization into models of operator sets that lack it."""
    proto = mlp()
    proto.opset_import[0].version = 13
    stored = [numpy_helper.from_array(np.ones(12, np.float32), name) for name in ("scale", "shift")]
    proto.graph.initializer.extend(stored)
    proto.graph.node.insert(1, helper.make_node("LayerNormalization", ["h0", "scale", "shift"], ["h0.norm"]))
    proto.graph.node[2].input[0] = "h0.norm"
    assert onnxmi.analyse(proto).graph.layers


def test_the_checker_does_not_see_large_tensors(mlp, monkeypatch):
    """A copy of each would double the memory that reading takes."""
    seen = []
    real = onnx.checker.check_model
    monkeypatch.setattr(onnx.checker, "check_model", lambda proto, **rest: (seen.append(proto), real(proto, **rest)))
    proto = mlp((6, 1200, 10, 4))
    Model.of(proto)
    assert {t.name for t in proto.graph.initializer} - {t.name for t in seen[0].graph.initializer} >= {"w0", "w1"}


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16", "int8"])
def test_types_of_any_size_are_counted(mlp, dtype):
    proto = mlp()
    kind = onnx.TensorProto.DataType.Value({"int8": "INT8", "float64": "DOUBLE"}.get(dtype, dtype.upper()))
    size = np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize
    made = helper.make_tensor("more", kind, [3, 5], b"\0" * (15 * size), raw=True)
    proto.graph.initializer.append(made)
    assert Model.of(proto)
    weight(proto, "more").raw_data += b"\0"
    with pytest.raises(ModelError, match="'more' has"):
        Model.of(proto)


def test_values_of_four_bits_share_bytes(mlp):
    proto = mlp()
    proto.graph.initializer.append(helper.make_tensor("more", onnx.TensorProto.INT4, [5], b"\x12\x34\x05", raw=True))
    assert Model.of(proto)
    weight(proto, "more").raw_data = b"\x12\x34"
    with pytest.raises(ModelError, match="'more' has 2 bytes"):
        Model.of(proto)


def test_a_batch_that_samples_would_be_repeated_for_until_the_memory_is_full(place, mlp):
    onnx.save(mlp(batch=2**40), place.folder / "model.onnx")
    assert "batches of 1,099,511,627,776, too many to fill up" in place.fails(
        3, "prune", "model.onnx", "calib.npz", "--keep", "0.5"
    )
    assert "input 'x' of shape (1099511627776, 6) is too large for a synthetic input" in place.fails(
        3, "inspect", "model.onnx"
    )
