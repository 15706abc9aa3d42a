"""Cuts of an axis that something normalises over are checked against normalisations that leave the masked out."""

import pytest

from tests.support.build import Build, between_matmuls
from tests.support.oracle import Case, assert_exact, cut_all


def check(proto, size: int = 11) -> None:
    case = Case.of(proto)
    assert [(layer.size, layer.grade) for layer in case.graph.layers] == [(size, "renormalising")]
    assert_exact(case, cut_all(case, drop=4))


def rms(b: Build, x: str, keepdims: int = 1) -> str:
    power = b.op("ReduceMean", b.op("Mul", x, x), b.ints(-1), keepdims=keepdims)
    return b.op("Mul", b.op("Div", x, b.op("Sqrt", b.op("Add", power, b.const(1e-5)))), b.vector(11))


def layer_norm(b: Build, x: str) -> str:
    centred = b.op("Sub", x, b.op("ReduceMean", x, b.ints(-1)))
    deviation = b.op("Sqrt", b.op("ReduceMean", b.op("Pow", centred, b.const(2.0)), b.ints(-1)))
    return b.op("Add", b.op("Mul", b.op("Div", centred, deviation), b.vector(11)), b.vector(11))


@pytest.mark.parametrize("step", [rms, layer_norm])
def test_a_norm_in_pieces(step) -> None:
    check(between_matmuls(step, opset=18))


def test_layer_normalization() -> None:
    check(between_matmuls(lambda b, x: b.op("LayerNormalization", x, b.vector(11), b.vector(11))))


def test_skip_layer_normalization() -> None:
    def step(b: Build, x: str) -> str:
        return b.op("SkipLayerNormalization", x, b.op("Relu", x), b.vector(11), b.vector(11), domain="com.microsoft")

    check_unchecked_types(between_matmuls(step))


def check_unchecked_types(proto) -> None:
    case = Case.of(proto)
    assert case.sizes == [11]
    assert_exact(case, cut_all(case, drop=4))


def test_a_group_norm_through_an_instance_norm_is_ragged() -> None:
    b = Build()
    x = b.conv(b.input(3, 3, 5, 7), 3, 22)
    ones, zeros = b.const([1.0, 1.0]), b.const([0.0, 0.0])
    grouped = b.op("InstanceNormalization", b.reshape(x, 0, 2, -1), ones, zeros)
    back = b.reshape(grouped, 3, 22, 5, 7)
    case = Case.of(b.proto(b.conv(back, 22, 7, kernel=(1, 1))))
    assert {(layer.size, layer.parts, layer.grade) for layer in case.graph.layers} >= {(11, 2, "renormalising")}
    assert_exact(case, cut_all(case, drop=4), tolerance=1e-4)


def test_a_length_is_exact() -> None:
    """Dividing by a sum of squares: a channel that is zero adds nothing to it."""

    def unit(b: Build, x: str) -> str:
        return b.op("Div", x, b.op("ReduceL2", x, b.ints(-1)))

    case = Case.of(between_matmuls(unit, opset=18))
    assert [(layer.size, layer.grade) for layer in case.graph.layers] == [(11, "exact")]
    assert_exact(case, cut_all(case))


def test_the_norm_operator_is_exact() -> None:
    case = Case.of(between_matmuls(lambda b, x: b.op("LpNormalization", x, axis=-1)))
    assert [(layer.size, layer.grade) for layer in case.graph.layers] == [(11, "exact")]
    assert_exact(case, cut_all(case))
