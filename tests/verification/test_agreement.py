"""How far two models may be apart: rounding, also where it is all that cancelled sums leave."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

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
