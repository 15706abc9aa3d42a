"""Rounding in the metric of moments: on the grid, which stays as it is, and nearer than each weight by itself."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from onnxmi.information.rounding import DAMPING, Grid, round_in_metric

GRIDS = (Grid(-64, 64), Grid(-127, 127), Grid(-8, 7, block=13), Grid(-8, 7))


def correlated(features: int, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(997, features)) @ rng.normal(size=(features, features)) + 1.0
    return rows.T @ rows / len(rows)


def error(change: np.ndarray, second: np.ndarray) -> float:
    return float(np.einsum("km,kl,lm->", change, second, change))


def nearest(weights: np.ndarray, second: np.ndarray, grid: Grid) -> np.ndarray:
    steps, _ = grid.steps(weights, second)
    return grid.nearest(weights, steps) * steps


@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_rounded_lies_on_the_grid_that_a_quantizer_will_lay_over_it(grid: Grid) -> None:
    weights, second = np.random.default_rng(5).normal(size=(83, 11)), correlated(83)
    rounded = round_in_metric(weights, second, grid)
    stored = rounded.astype(np.float32).astype(np.float64)
    block = grid.block or len(weights)
    for start in range(0, len(weights), block):  # the rule of the quantizer: the largest is the lowest number
        part = stored[start : start + block]
        largest = np.take_along_axis(part, np.abs(part).argmax(axis=0)[None], axis=0)
        whole = part / (largest / grid.lowest)
        np.testing.assert_allclose(whole, np.rint(whole), atol=1e-4)
        assert np.rint(whole).max() <= max(grid.highest, -grid.lowest)
        assert (np.rint(whole) == grid.lowest).any(axis=0).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_products_change_less_than_if_each_weight_is_rounded_alone(grid: Grid) -> None:
    weights, second = np.random.default_rng(7).normal(size=(131, 17)), correlated(131)
    rounded = round_in_metric(weights, second, grid)
    assert error(rounded - weights, second) < 0.6 * error(nearest(weights, second, grid) - weights, second)


def test_of_a_few_weights_it_is_about_the_best_that_there_is() -> None:
    grid, second = Grid(-8, 7), correlated(4, seed=11)
    damped = second + DAMPING * np.diag(second).mean() * np.eye(4)
    shares = []
    for seed in range(23):
        weights = np.random.default_rng(seed).normal(size=(4, 1))
        steps, anchors = grid.steps(weights, second)
        whole = [(grid.lowest,) if fixed else tuple(range(-8, 8)) for fixed in anchors[:, 0]]
        each = [error(np.array(choice)[:, None] * steps - weights, damped) for choice in product(*whole)]
        shares.append(error(round_in_metric(weights, second, grid) - weights, damped) / min(each))
    assert min(shares) >= 1 - 1e-9
    assert np.median(shares) < 1.3


def test_inputs_that_have_nothing_to_do_with_each_other_leave_the_nearest() -> None:
    grid, weights = Grid(-64, 64), np.random.default_rng(9).normal(size=(37, 5))
    second = np.diag(np.random.default_rng(10).uniform(0.1, 9.0, size=37))
    np.testing.assert_array_equal(round_in_metric(weights, second, grid), nearest(weights, second, grid))


def test_a_rare_large_weight_is_clipped_where_that_costs_less_than_wide_steps() -> None:
    weights = np.random.default_rng(2).uniform(-1.0, 1.0, size=(211, 1))
    weights[7] = 1.4
    importance = np.ones(211)
    importance[7] = 0.01
    steps, _ = Grid(-8, 7).steps(weights, np.diag(importance))
    assert np.abs(steps).max() < 1.4 / 8
    importance[7] = 100.0
    assert np.abs(Grid(-8, 7).steps(weights, np.diag(importance))[0]).max() == 1.4 / 8


def test_weights_and_inputs_that_are_all_zero_stay_zero() -> None:
    weights = np.zeros((29, 3))
    np.testing.assert_array_equal(round_in_metric(weights, np.zeros((29, 29)), Grid(-64, 64)), weights)
