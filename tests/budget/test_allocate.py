"""Allocation against every combination there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmi.axes.terms import Dim
from onnxmi.budget.allocate import Limit, SizeOptions, allocate, frontier
from onnxmi.graph.cost_model import CostModel, Piece

SIZES = np.array([2, 5, 7, 11])


def options(*damage: float) -> SizeOptions:
    return SizeOptions(SIZES, np.array(damage))


def cost(*pieces: tuple[float, tuple[int, ...]], fixed: float = 0.0) -> CostModel:
    """Pieces, each proportional to the sizes of some layers of 11 units."""
    made = [Piece(full, tuple(Dim(layer, 11) for layer in layers)) for full, layers in pieces]
    return CostModel.of([*made, Piece(fixed, ())], {layer for _, layers in pieces for layer in layers})


def damage_of(size_options: dict[int, SizeOptions], counts: dict[int, int]) -> float:
    return sum(float(size_options[layer].damage[SIZES.tolist().index(size)]) for layer, size in counts.items())


def best_of_all(size_options: dict[int, SizeOptions], limits: list[Limit]) -> float | None:
    every = (dict(zip(size_options, sizes, strict=True)) for sizes in product(SIZES.tolist(), repeat=len(size_options)))
    fitting = [
        damage_of(size_options, counts) for counts in every if all(limit.utilization(counts) <= 1 for limit in limits)
    ]
    return min(fitting, default=None)


def curves(count: int) -> st.SearchStrategy[dict[int, SizeOptions]]:
    steps = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3)
    falling = steps.map(lambda s: SizeOptions(SIZES, np.append(np.cumsum(s[::-1])[::-1], 0.0)))
    return st.lists(falling, min_size=count, max_size=count).map(lambda size_options: dict(enumerate(size_options)))


def test_nothing_is_cut_where_everything_fits() -> None:
    size_options = {0: options(3, 2, 1, 0), 1: options(3, 2, 1, 0)}
    assert allocate(size_options, [Limit(cost((100, (0,)), (100, (1,))), 200)]) == {0: 11, 1: 11}


def test_what_does_not_fit_at_the_smallest_is_none() -> None:
    assert allocate({0: options(3, 2, 1, 0)}, [Limit(cost((110, (0,)), fixed=10), 29)]) is None
    assert allocate({0: options(3, 2, 1, 0)}, [Limit(cost((110, (0,)), fixed=10), 30)]) == {0: 2}


def test_the_layer_that_matters_less_is_cut_more() -> None:
    size_options = {0: options(0.9, 0.5, 0.3, 0), 1: options(0.009, 0.005, 0.003, 0)}
    found = allocate(size_options, [Limit(cost((110, (0,)), (110, (1,))), 130)])
    assert found == {0: 11, 1: 2}


def test_a_cheap_layer_is_left_alone() -> None:
    size_options = {0: options(0.9, 0.5, 0.3, 0), 1: options(0.9, 0.5, 0.3, 0)}
    found = allocate(size_options, [Limit(cost((1, (0,)), (1100, (1,))), 801)])
    assert found == {0: 11, 1: 7}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(curves(3), st.floats(0.3, 0.95))
def test_near_the_best_where_costs_add_up(size_options: dict[int, SizeOptions], share: float) -> None:
    limits = [Limit(cost((110, (0,)), (220, (1,)), (55, (2,))), 385 * share)]
    found, best = allocate(size_options, limits), best_of_all(size_options, limits)
    assert found is not None
    assert limits[0].utilization(found) <= 1.0
    assert best is not None
    assert (
        damage_of(size_options, found)
        <= best + 0.6 * float(max(np.diff(-m.damage).max() for m in size_options.values())) + 1e-9
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(curves(3), st.floats(0.2, 0.95))
def test_limits_hold_where_costs_of_neighbours_multiply(size_options: dict[int, SizeOptions], share: float) -> None:
    chain = cost((100, (0,)), (400, (0, 1)), (300, (1, 2)), (50, (2,)))
    limits = [Limit(chain, 850 * share)]
    found, best = allocate(size_options, limits), best_of_all(size_options, limits)
    assert (found is None) == (best is None)
    if found is not None and best is not None:
        assert limits[0].utilization(found) <= 1.0
        assert damage_of(size_options, found) <= 3.0 * best + 1e-9


@settings(max_examples=30, deadline=None, derandomize=True)
@given(curves(2), st.floats(0.4, 0.9), st.floats(0.4, 0.9))
def test_all_of_several_limits_hold(size_options: dict[int, SizeOptions], first: float, second: float) -> None:
    limits = [Limit(cost((100, (0,)), (10, (1,))), 110 * first), Limit(cost((10, (0,)), (100, (1,))), 110 * second)]
    found = allocate(size_options, limits)
    assert found is not None
    assert all(limit.utilization(found) <= 1.0 for limit in limits)


@pytest.mark.parametrize("share", [0.35, 0.5, 0.8])
def test_what_is_left_over_is_spent(share: float) -> None:
    """A curve that is not convex: the sweep alone would jump over the sizes between."""
    size_options = {0: options(1.0, 0.99, 0.98, 0.0), 1: options(1.0, 0.99, 0.98, 0.0)}
    limits = [Limit(cost((110, (0,)), (110, (1,))), 220 * share)]
    found = allocate(size_options, limits)
    assert found is not None
    best = best_of_all(size_options, limits)
    assert best is not None
    assert damage_of(size_options, found) == pytest.approx(best, abs=0.02)


def test_the_frontier_is_what_single_allocations_find() -> None:
    size_options = {0: options(0.9, 0.5, 0.3, 0), 1: options(0.09, 0.05, 0.03, 0), 2: options(4.0, 1.1, 0.2, 0)}
    model = cost((130, (0, 1)), (70, (1, 2)), (110, (2,)), fixed=13)
    points = frontier(size_options, model, model.total({}))
    assert points[0] == (model.total(dict.fromkeys(size_options, 2)), pytest.approx(4.99))
    assert points[-1] == (model.total(dict.fromkeys(size_options, 11)), 0.0)
    assert len(points) > 4
    for total, damage in points:
        counts = allocate(size_options, [Limit(model, total)])
        assert counts is not None
        assert damage_of(size_options, counts) <= damage + 1e-12


def test_one_layer_that_makes_up_the_cost_is_cut_no_further_than_asked() -> None:
    """Its curve is concave and flat at its start: the sweep leaves the smallest size, and one step helps nothing."""
    size_options = {0: options(0.18, 0.18, 0.09, 0.0), 1: options(9.0, 8.0, 7.0, 0.0)}
    limits = [Limit(cost((1100, (0,)), (11, (1,))), 0.9 * 1111)]
    assert allocate(size_options, limits) == {0: 7, 1: 11}


def test_the_frontier_has_plans_inside_of_a_concave_curve() -> None:
    model = cost((1100, (0,)))
    points = frontier({0: options(0.18, 0.18, 0.09, 0.0)}, model, model.total({}))
    assert points == [(200.0, 0.18), (500.0, 0.18), (700.0, 0.09), (1100.0, 0.0)]
