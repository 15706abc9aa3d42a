"""Inputs that are made up: of the sizes that are told, else of sizes that a model runs on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.errors import UsageError
from onnxmi.model import Model
from onnxmi.runtime.probe import probe
from onnxmi.runtime.synthetic import attempts, read_sizes
from tests.support.build import Build
from tests.support.interfaces import taking

WINDOW = 401  # longer than any of the first sizes


def shapes(feeds):
    return {name: value.shape for name, value in feeds.items()}


def first_of(model, **told):
    return shapes(next(attempts(model.graph.inputs, None, read_sizes(**told))))


def test_the_batch_has_one_size_wherever_it_is():
    model = taking(x=(None, None), state=(2, None, 5), sr=())
    assert first_of(model) == {"x": (3, 7), "state": (2, 3, 5), "sr": ()}
    model = taking(x=("time", "batch", 5), h=(1, "batch", 5))
    assert first_of(model) == {"x": (7, 3, 5), "h": (1, 3, 5)}


def test_what_is_told_holds_for_all_inputs():
    model = taking(x=("batch", "T"), mask=("batch", "T"), y=("batch", "U"))
    assert first_of(model, dim="T=512") == {"x": (3, 512), "mask": (3, 512), "y": (3, 7)}
    assert first_of(model, shape="x=2,31") == {"x": (2, 31), "mask": (2, 31), "y": (2, 7)}
    model = taking(x=(None, None), state=(2, None, 5))
    assert first_of(model, shape="x=1,512") == {"x": (1, 512), "state": (2, 1, 5)}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"shape": "z=1,2"}, "no input 'z'"),
        ({"shape": "x=1,2,3"}, "does not fit"),
        ({"shape": "y=1,9"}, "does not fit"),
        ({"shape": ("x=1,2", "y=3,5")}, "'batch' is 1 elsewhere"),
        ({"dim": "U=3"}, "no axis of an input has that name; the model has T, batch"),
        ({"dim": "T"}, "expected an axis and its size"),
        ({"dim": "T=0"}, "expected an axis and its size"),
        ({"shape": "x=1,b"}, "expected an input and its sizes"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_graph_is_refused(told, message):
    with pytest.raises(UsageError, match=message):
        first_of(taking(x=("batch", "T"), y=("batch", 5)), **told)


def windowed() -> onnx.ModelProto:
    """A convolution over windows of sound, after a padding by reflection that is longer than short sounds."""
    b = Build(seed=0)
    x = b.op("Unsqueeze", b.input("N", "time"), b.ints(1))
    padded = b.op("Pad", x, b.ints(0, 0, WINDOW - 1, 0, 0, WINDOW - 1), mode="reflect")
    hidden = b.op("Relu", b.op("Conv", padded, b.weight(7, 1, WINDOW), strides=[97]))
    return b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", hidden)), 7, 3))


def test_sizes_grow_until_the_model_runs():
    assert shapes(probe(Model.of(windowed())).feeds) == {"x": (3, 512)}


def test_inputs_at_hand_come_before_larger_ones():
    given = {"x": np.zeros((2, 449), np.float32)}
    assert probe(Model.of(windowed()), given).feeds is given


def test_what_is_told_is_tried_alone():
    inputs = taking(x=("batch", "T")).graph.inputs
    assert [shapes(feeds) for feeds in attempts(inputs, None, read_sizes("x=2,5"))] == [{"x": (2, 5)}]


@pytest.mark.parametrize(("dims", "largest"), [(("n", "t"), (3, 262_144)), (("n", 3, "h", "w"), (3, 3, 640, 672))])
def test_large_inputs_are_not_tried_out(dims, largest):
    tried = [feeds["x"].shape for feeds in attempts(taking(x=dims).graph.inputs)]
    assert max(tried, key=np.prod) == largest
