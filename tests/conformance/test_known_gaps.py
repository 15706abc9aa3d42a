"""The smallest models of what the conformance ring found: gaps are strict expected failures, the others are closed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.build import Build
from tests.support.oracle import Case, assert_exact, assert_frozen, spread


def _gap(why: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, reason=why)


def _stored(b: Build, *shape: int) -> str:
    """Numbers that are stored but depend on what is fed, so that every axis is carried by a stored tensor."""
    one = b.op("Cast", b.input(*[1] * len(shape), name=b.name("one"), dtype=np.int64), to=1)
    return b.op("Mul", b.weight(*shape), one)


def _assert_each_is_exact(b: Build, made: str) -> None:
    case = Case.of(b.proto(made))
    assert case.graph.layers
    for layer in case.graph.layers:
        assert_exact(case, {layer.id: spread(layer, layer.size // 2)})
    if len(case.graph.layers) > 1:
        assert_exact(case, {layer.id: spread(layer, layer.size // 2) for layer in case.graph.layers})


def _contract(b: Build, x: str, *shape: int) -> str:
    """Contract every axis: each is turned to the end and multiplied by a matrix."""
    for size in shape:
        turned = b.op("Transpose", x, perm=[*range(1, len(shape)), 0]) if len(shape) > 1 else x
        x = b.op("MatMul", turned, b.weight(size, 3))
    return x


def test_a_weight_on_a_shape_is_not_cut() -> None:
    b = Build()
    shape = b.op("Cast", b.op("Shape", b.dense(b.input("N", 5, 7), 7, 11)), to=1)
    case = Case.of(b.proto(b.op("MatMul", shape, b.weight(3, 4))))
    assert case.sizes == []


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_the_steps_of_a_recurrence_are_not_cut(op: str) -> None:
    b = Build()
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    weights = b.weight(1, gates * 5, 7), b.weight(1, gates * 5, 5)
    made, _ = b.op(op, _stored(b, 6, 1, 7), *weights, hidden_size=5, direction="reverse", outputs=2)
    _assert_each_is_exact(b, _contract(b, made, 6, 1, 1, 5))


def test_dropout_in_training_is_not_cut() -> None:
    b = Build()
    made = b.op("Dropout", b.gemm(b.input("N", 7), 7, 11), b.const(0.5), b.const(np.array(True)), seed=0)
    assert_frozen(b.proto(b.gemm(made, 11, 5)), "draws random numbers")


def test_batch_and_positions_of_attention_are_cut_together_or_not_at_all() -> None:
    b = Build(opset=23)
    operands = [_stored(b, 2, 4, 6) for _ in range(3)]
    made = b.op("Attention", *operands, q_num_heads=3, kv_num_heads=3)
    _assert_each_is_exact(b, _contract(b, made, 2, 4, 6))


def test_batch_and_positions_of_a_rotation_are_cut_together_or_not_at_all() -> None:
    b = Build(opset=23)
    places = b.const(np.arange(8, dtype=np.int64).reshape(2, 4))
    made = b.op("RotaryEmbedding", _stored(b, 2, 3, 4, 6), b.weight(9, 3), b.weight(9, 3), places)
    _assert_each_is_exact(b, _contract(b, made, 2, 3, 4, 6))


def test_a_product_of_two_stored_tensors_is_contracted() -> None:
    b = Build()
    weight = b.weight(7, 11)
    hidden = b.op("MatMul", b.input("N", 7), weight)
    table = b.op("MatMul", b.op("MatMul", b.weight(4, 7), weight), b.weight(11, 5))
    _assert_each_is_exact(b, b.op("Add", b.op("MatMul", hidden, b.weight(11, 5)), b.op("ReduceSum", table, keepdims=1)))


@_gap("the outputs of a mean and a deviation are lost where the normalisation is spelled out")
def test_a_layer_norm_that_tells_its_mean_is_spelled_out() -> None:
    b = Build()
    hidden = b.dense(b.input("N", 5, 7), 7, 11)
    made, mean, _ = b.op("LayerNormalization", hidden, b.vector(11), b.vector(11), outputs=3)
    _assert_each_is_exact(b, b.op("Add", b.dense(made, 11, 3), mean))


def test_all_of_three_reduced_axes_are_cut() -> None:
    b = Build()
    _assert_each_is_exact(b, b.op("ReduceSum", _stored(b, 3, 4, 6), keepdims=1))
