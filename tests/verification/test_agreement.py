"""How far two models may be apart: rounding, also where it is all that cancelled sums leave."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.quantization.processor import saturates
from onnxmi.verification import agreement
from onnxmi.verification.agreement import Difference, ModelPair
from tests.support.build import Build
from tests.support.oracle import Case

HIDDEN = 31


def cancelling(order: np.ndarray, size: float, wrong: float = 1.0) -> onnx.ModelProto:
    """Two products whose result is of the order of one, whatever size what is added up in it has."""
    b, rng = Build(), np.random.default_rng(3)
    first, second = rng.normal(size=(7, HIDDEN)) * size, rng.normal(size=(HIDDEN, 5))
    second -= np.linalg.pinv(first) @ (first @ second - rng.normal(size=(7, 5)))
    second[order[0]] *= wrong
    hidden = b.op("MatMul", b.input("N", 7), b.const(first[:, order].astype(np.float32)))
    return b.proto(b.op("MatMul", hidden, b.const(second[order].astype(np.float32))))


def difference(size: float, wrong: float = 1.0) -> Difference:
    """Of the same model with its hidden units in another order, and one of them a little off."""
    order = np.arange(HIDDEN)
    one, other = cancelling(order, size), cancelling(order[::-1], size, wrong)
    case = Case.of(one)
    found = ModelPair(one, other, case.probe, [[case.feeds()]]).of([one.graph.output[0].name])
    assert found is not None
    return found


@pytest.mark.parametrize("size", [1.0, 1e3, 1e4])
def test_sums_in_another_order_agree_also_where_they_cancel(size: float) -> None:
    assert difference(size).passed


@pytest.mark.parametrize(("size", "wrong"), [(1.0, 1.001), (1e3, 1.00001), (1e4, 1.0001)])
def test_a_weight_that_is_off_does_not_hide_behind_last_bits(size: float, wrong: float) -> None:
    assert not difference(size, wrong).passed


def test_outputs_that_are_nothing_but_last_bits_tell_nothing() -> None:
    assert not difference(1e6).passed


# -- rounding ---------------------------------------------------------------------------------------------------------


def compared(one: onnx.ModelProto, other: onnx.ModelProto, x: np.ndarray) -> Difference:
    found = ModelPair(one, other, Case.of(one).probe, [[{"x": x}]]).of([one.graph.output[0].name])
    assert found is not None
    return found


def steep(nudge: float) -> onnx.ModelProto:
    """Two rounded inputs, and what is sensitive to the second one's steps."""
    b = Build(seed=1)
    x = b.op("Mul", b.input("N", 2), b.const(np.float32(nudge)))
    scale, zero = b.const(np.float32(0.1)), b.const(np.uint8(100))
    rounded = b.op("DequantizeLinear", b.op("QuantizeLinear", x, scale, zero), scale, zero)
    far = b.op("Sub", rounded, b.const(np.array([0.0, 0.08], np.float32)))
    return b.proto(b.op("Sigmoid", b.op("Mul", far, b.const(np.array([4.0, 60.0], np.float32)))), dims=[("N", 2)])


def test_one_sum_that_falls_between_two_steps_may_move_one_number_far() -> None:
    x = np.stack([np.linspace(-1, 1, 997), np.zeros(997)], axis=1).astype(np.float32)
    x[500, 1] = 0.05 - 1e-8
    assert compared(steep(1.0), steep(1.0 + 2e-6), x).passed
    x[:, 1] = x[500, 1]  # and if it moves many
    assert not compared(steep(1.0), steep(1.0 + 2e-6), x).passed


@pytest.mark.skipif(not saturates(), reason="no sum of products saturates on this processor")
def test_products_that_a_processor_cuts_off_are_no_wrong_rewrite(monkeypatch: pytest.MonkeyPatch) -> None:
    def product(order: np.ndarray) -> onnx.ModelProto:
        b = Build(seed=1)
        weight = np.where(np.arange(64) % 2, -125, 127)[:, None] * np.ones(5)
        value, scale, zero = b.op("DynamicQuantizeLinear", b.input("N", 64), outputs=3)
        product = b.op("MatMulInteger", value, b.const(weight[order].astype(np.int8)), zero)
        return b.proto(b.op("Mul", b.op("Cast", product, to=1), scale), dims=[("N", 5)])

    x = np.random.default_rng(2).uniform(0.9, 1.0, size=(7, 1)).repeat(64, axis=1).astype(np.float32)
    ones = np.arange(64), np.argsort(np.arange(64) % 2, kind="stable")  # pairs that cancel, and pairs that add up
    assert compared(*map(product, ones), x).passed
    monkeypatch.setattr(agreement, "saturates", lambda: False)
    assert not compared(*map(product, ones), x).passed
