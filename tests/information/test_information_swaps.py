from itertools import combinations

import numpy as np
import pytest

from onnxmi.information import Selection, View, backward_swaps, gaussian, joint


def view_of(seed: int, units: np.ndarray, targets: int = 4) -> View:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(len(units), len(units) + 3)) * rng.uniform(0.3, 3.0, size=(len(units), 1))
    return View(root @ root.T, rng.normal(size=(len(units), targets)), units)


def direct(view: View, chosen: list[int]) -> float:
    cross = view.covariance @ view.weights
    outputs = view.weights.T @ cross
    whole = np.block(
        [[view.covariance, cross], [cross.T, outputs + 0.01 * np.diag(outputs).mean() * np.eye(len(outputs))]]
    )
    own = np.flatnonzero(np.isin(view.units, chosen)).tolist()
    return gaussian(whole, own, range(len(view.units), len(whole)))


@pytest.mark.parametrize(("units", "keep"), [(np.arange(9), 4), (np.repeat(np.arange(7), 3), 3)])
def test_swaps_find_the_best_subset_more_often(units, keep):
    before, after = [], []
    for seed in range(20):
        view, n_units = view_of(seed, units), int(units.max()) + 1
        best = max(direct(view, list(subset)) for subset in combinations(range(n_units), keep))
        greedy = joint([view], n_units, keep)
        swapped = backward_swaps([view], greedy, 9)
        assert swapped.curve[-1] == pytest.approx(direct(view, swapped.kept.tolist()), rel=1e-6)
        before.append(greedy.curve[-1] / best)
        after.append(swapped.curve[-1] / best)
    assert (np.array(after) >= np.array(before)).all()
    assert np.sum(np.array(before) > 1 - 1e-6) + 3 <= np.sum(np.array(after) > 1 - 1e-6)


def test_a_poor_start_is_improved_over_several_views():
    views = [view_of(1, np.arange(7)), view_of(2, np.repeat([6, 0, 3, 2], 2)), view_of(3, np.array([-1, 5, 4, 2]))]
    start = Selection.of([0, 1, 2], [0.0, 0.0, 0.0])
    improved = backward_swaps(views, start, 20)
    assert improved.curve[-1] >= 0.95 * joint(views, 7, 3).curve[-1]
    one = backward_swaps(views, start, 1)
    assert np.setdiff1d(one.kept, start.kept).size == 1
    assert one.curve[-1] <= improved.curve[-1]


def test_swaps_stay_within_parts():
    parts = np.array([0, 0, 0, 1, 1, 1, 1])
    start = Selection.of([0, 3], [0.0, 0.0])
    for seed in range(5):
        improved = backward_swaps([view_of(seed, np.arange(7))], start, 9, parts=parts)
        assert sorted(parts[improved.kept]) == [0, 1]
        assert improved.order.size == 2


def test_nothing_to_exchange():
    view = view_of(4, np.arange(5))
    for keep in (0, 5):
        selection = joint([view], 5, keep)
        assert backward_swaps([view], selection, 3) is selection
    assert backward_swaps([view], joint([view], 5, 2), 0).kept.size == 2
    with pytest.raises(ValueError, match="noise"):
        backward_swaps([view], joint([view], 5, 2), 1, noise=0.0)
