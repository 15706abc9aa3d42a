"""Samples that lie where the model has its time are refused, and nothing else is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.data.batching import batched
from onnxmi.data.sources import as_calibration
from onnxmi.errors import CalibrationError
from onnxmi.model import Model
from tests.support.build import Build

T, N, F, H = 9, 13, 5, 4


def recurrent(*dims: int | str | None, layout: str = "time") -> Model:
    """A GRU, which takes time first; with layout "samples", a Transpose before it makes that samples first."""
    b = Build(seed=0)
    x = b.input(*dims, F)
    x = b.op("Transpose", x, perm=[1, 0, 2]) if layout == "samples" else x
    y = b.op("GRU", x, b.weight(1, 3 * H, F), b.weight(1, 3 * H, H), hidden_size=H)
    hidden = b.op("Squeeze", b.op("ReduceMean", y, axes=[0], keepdims=0) if b.opset < 18 else y, b.ints(0))
    return Model.of(b.proto(b.gemm(hidden, H, 3)))


def checked(model, array, **axes):
    return batched(model, as_calibration(onnxmi.source({"x": array}, sample_axis=axes), model), 1)


def sounds(*shape):
    return np.random.default_rng(0).normal(size=(*shape, F)).astype(np.float32)


@pytest.mark.parametrize("dims", [(None, None), ("a", "c")])
def test_samples_first_for_a_model_of_time_first_are_refused(dims):
    with pytest.raises(CalibrationError, match=r"along axis 0, but not along axis 1; .* --sample-axis x=1"):
        checked(recurrent(*dims), sounds(N, T))


def test_what_is_said_is_not_doubted():
    assert checked(recurrent(None, None), sounds(T, N), x=1).count == N
    assert checked(recurrent(None, None), sounds(N, T), x=0).count == N
    assert checked(recurrent("time", "batch"), sounds(T, N)).count == N


def test_samples_first_for_a_model_of_samples_first_are_right():
    assert checked(recurrent(None, None, layout="samples"), sounds(N, T)).count == N


def test_a_model_that_mixes_its_samples_along_all_axes_is_left_as_it_is():
    b = Build(seed=0)
    x = b.input(None, None, name="x")
    mixed = b.op("Sub", x, b.op("ReduceMean", x, keepdims=1))
    model = Model.of(b.proto(b.op("Relu", mixed)))
    assert checked(model, np.random.default_rng(0).normal(size=(N, T)).astype(np.float32)).count == N


def test_tokens_without_a_named_batch_are_right():
    b = Build(seed=0)
    words = b.op("Gather", b.weight(11, 7), b.input(None, None, dtype=np.int64))
    model = Model.of(b.proto(b.op("MatMul", b.op("ReduceMean", words, axes=[1], keepdims=0), b.weight(7, 3))))
    assert isinstance(model.proto, onnx.ModelProto)
    assert checked(model, np.random.default_rng(0).integers(0, 11, size=(N, T))).count == N
