import pytest

from tests.support.build import Build, between_convs
from tests.support.oracle import assert_prunes

WINDOWS = {"AveragePool": {"kernel_shape": [3, 2]}, "MaxPool": {"kernel_shape": [2, 3], "strides": [2, 1]}}
WINDOWS["LpPool"] = {"kernel_shape": [3, 3]}


@pytest.mark.parametrize("op", WINDOWS)
def test_pooling_passes_the_channels(op: str) -> None:
    assert_prunes(between_convs(lambda b, x: b.op(op, x, **WINDOWS[op])), 11)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pooling_passes_the_channels(op: str) -> None:
    assert_prunes(between_convs(lambda b, x: b.op(op, x)), 11)


@pytest.mark.parametrize("op", WINDOWS)
def test_the_space_under_a_pool_stays(op: str) -> None:
    """Without a convolution that slides over them the axes would be free: here they are mixed by a MatMul each."""
    b = Build()
    hidden = b.op("MatMul", b.input("N", 3, 5, 7), b.weight(7, 9))
    pooled = b.op(op, hidden, name="p", kernel_shape=[1, 2])
    case = assert_prunes(b.proto(b.op("MatMul", b.op("MatMul", pooled, b.weight(8, 11)), b.weight(11, 13))), 11)
    assert f"{op} p pools over it" in case.reasons


def test_squeeze_and_excite() -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 11)
    squeezed = b.conv(b.op("GlobalAveragePool", hidden), 11, 5, kernel=(1, 1))
    gate = b.op("Sigmoid", b.conv(b.op("Relu", squeezed), 5, 11, kernel=(1, 1)))
    assert_prunes(b.proto(b.conv(b.op("Mul", hidden, gate), 11, 7)), 11, 5)
