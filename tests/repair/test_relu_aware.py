"""Regression on what a Relu lets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmi.repair.relu_aware import RectifiedRows, refine


def rows(seed: int, upward: bool = True, count: int = 211) -> RectifiedRows:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 5)).astype(np.float32)
    targets = (np.tanh(rng.normal(size=(count, 7))) + inputs @ rng.normal(size=(5, 7))).astype(np.float32)
    return RectifiedRows(inputs, targets, np.full((1, 7), 0.3, np.float32), np.full(7, upward))


def start(of: RectifiedRows) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.concatenate([of.inputs, np.ones((len(of.inputs), 1), np.float32)], axis=1).astype(np.float64)
    solution = np.linalg.lstsq(inputs, of.targets.astype(np.float64), rcond=None)[0]
    return solution[:-1], solution[-1]


@given(st.integers(0, 50), st.booleans())
def test_refining_never_makes_the_rectified_error_worse(seed: int, upward: bool) -> None:
    made = rows(seed, upward)
    first = start(made)
    assert made.error(*refine(made, *first, ridge=1e-9)) <= made.error(*first) * (1 + 1e-6)


def test_refining_helps_where_much_is_closed() -> None:
    made = rows(3)
    first = start(made)
    assert made.error(*refine(made, *first, ridge=1e-9)) < 0.9 * made.error(*first)


@pytest.mark.parametrize("upward", [True, False])
def test_the_nearest_target_has_the_same_rectified_value(upward: bool) -> None:
    made = rows(4, upward)
    sign = 1.0 if upward else -1.0
    results = np.random.default_rng(9).normal(size=made.targets.shape).astype(np.float32)
    nearest = made.nearest(results)
    for value in (nearest, made.targets):
        value[...] = np.maximum(sign * (value - made.threshold), 0.0)
    np.testing.assert_allclose(nearest, made.targets, atol=1e-6)


def test_what_is_open_must_be_met() -> None:
    made = rows(5)
    results = np.zeros_like(made.targets)
    is_open = made.targets > made.threshold
    np.testing.assert_array_equal(made.nearest(results)[is_open], made.targets[is_open])
    assert (made.nearest(results)[~is_open] == 0.0).all()
