from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmi.information import ClassMeans, Moments, View, joint
from tests.support.information import gaussian

seeds = st.integers(0, 2**32 - 1)


def view_of(seed: int, units: list[int] | np.ndarray, targets: int, rank: int | None = None, **options: object) -> View:
    rng = np.random.default_rng(seed)
    features = len(units)
    root = rng.normal(size=(features, rank or features + 3)) * rng.uniform(0.3, 3.0, size=(features, 1))
    return View(root @ root.T, rng.normal(size=(features, targets)), np.asarray(units), **options)


def direct(view: View, chosen: list[int] | np.ndarray, noise: float) -> float:
    """I(X_S ; Y + N | features of other layers) as a difference of two log-determinant formulas."""
    cross = view.covariance @ view.weights
    outputs = view.weights.T @ cross
    level = noise * np.diagonal(outputs).mean()
    outputs = outputs + level * np.eye(len(outputs))
    whole = np.block([[view.covariance, cross], [cross.T, outputs]])
    targets = list(range(len(view.units), len(whole)))
    fixed = np.flatnonzero(view.units < 0).tolist()
    own = np.flatnonzero(np.isin(view.units, chosen)).tolist()
    return view.weight * (gaussian(whole, fixed + own, targets) - gaussian(whole, fixed, targets))


def naive_order(views: list[View], n_units: int, keep: int, noise: float) -> list[int]:
    order: list[int] = []
    for _ in range(keep):
        left = [unit for unit in range(n_units) if unit not in order]
        order.append(max(left, key=lambda unit: sum(direct(view, [*order, unit], noise) for view in views)))
    return order


CASES = {
    "one feature each, fewer targets": [view_of(0, range(11), 3)],
    "one feature each, more targets": [view_of(1, range(7), 13)],
    "blocks": [view_of(2, np.repeat(np.arange(5), 3), 4)],
    "shuffled blocks of unequal size": [view_of(3, [2, 0, 1, 0, 2, 2, 4, 3, 3, 0, 1], 5)],
    "a unit without features": [view_of(4, [0, 1, 3, 4, 5, 6], 3)],
    "features of another layer": [view_of(5, [-1, 0, 1, -1, 2, 3, 4, -1], 3)],
    "only features of another layer": [view_of(6, [-1, -1], 2), view_of(7, range(5), 3)],
    "views of different kinds": [
        view_of(9, range(7), 3, weight=0.2),
        view_of(10, np.repeat(np.arange(7), 2), 5),
        view_of(11, [-1, 3, 2, 6, -1], 4, weight=2.0),
    ],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("noise", [1e-3, 0.01, 1.0])
def test_the_sweep_equals_the_definition(name, noise):
    views = CASES[name]
    n_units = int(max(view.units.max() for view in views)) + 1
    selection = joint(views, n_units, n_units, noise=noise)
    assert sorted(selection.order) == selection.kept.tolist() == list(range(n_units))
    curve = [sum(direct(view, selection.order[:k], noise) for view in views) for k in range(1, n_units + 1)]
    np.testing.assert_allclose(selection.curve, curve, rtol=1e-5)
    useful = int((selection.gains > 1e-6).sum())
    assert selection.order[:useful].tolist() == naive_order(views, n_units, useful, noise)


def test_the_sweep_is_the_same_however_many_rows_are_pending(monkeypatch):
    view = view_of(12, range(101), 29)
    few = joint([view], 101, 97)
    monkeypatch.setattr("onnxmi.information.cholesky._PENDING", 7)
    many = joint([view], 101, 97)
    np.testing.assert_array_equal(few.order, many.order)
    np.testing.assert_allclose(few.gains, many.gains, rtol=1e-6)
    monkeypatch.setattr("onnxmi.information.cholesky._PENDING", 2)
    blocks = view_of(13, np.repeat(np.arange(23), 5), 11)
    few = joint([blocks], 23, 23)
    np.testing.assert_allclose(few.curve[-1], direct(blocks, few.order, 0.01), rtol=1e-6)


def test_a_shorter_selection_is_a_prefix():
    views = CASES["views of different kinds"]
    whole = joint(views, 7, 7)
    for keep in range(8):
        selection = joint(views, 7, keep)
        np.testing.assert_array_equal(selection.order, whole.order[:keep])
        np.testing.assert_array_equal(selection.kept, np.sort(whole.order[:keep]))


def test_greedy_against_every_subset():
    shares = []
    for seed in range(20):
        view = view_of(seed, range(9), 4)
        best = max(direct(view, list(subset), 0.01) for subset in combinations(range(9), 4))
        shares.append(joint([view], 9, 4).curve[-1] / best)
    # The information is not submodular (targets are sums of units), so 1 - 1/e is no theorem here, but it holds.
    assert 1 - 1 / np.e < min(shares)
    assert max(shares) < 1 + 1e-6
    assert np.mean(shares) > 0.95


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_scaling_and_permuting_the_features_permutes_the_choice(seed):
    rng = np.random.default_rng(seed)
    view = view_of(seed, range(7), 3)
    scale, order = 10.0 ** rng.uniform(-4, 4, size=7), rng.permutation(7)
    scaled = View(
        (view.covariance * np.outer(scale, scale))[np.ix_(order, order)], (view.weights / scale[:, None])[order], order
    )
    left, right = joint([view], 7, 7), joint([scaled], 7, 7)
    np.testing.assert_array_equal(left.order, right.order)
    np.testing.assert_allclose(left.gains, right.gains, rtol=1e-5, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_more_units_never_tell_less_and_never_more_than_all(seed):
    view = view_of(seed, [0, 0, 1, 2, 2, 3, -1], 3)
    selection = joint([view], 4, 4)
    assert (selection.gains >= 0).all()
    assert selection.curve[-1] == pytest.approx(direct(view, range(4), 0.01), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_huge_and_tiny_scales(scale):
    plain = view_of(14, np.repeat(np.arange(5), 2), 3)
    for view in (
        View(plain.covariance * scale**2, plain.weights, plain.units),
        View(plain.covariance, plain.weights * scale, plain.units),
    ):
        np.testing.assert_allclose(joint([view], 5, 5).gains, joint([plain], 5, 5).gains, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_a_duplicate_adds_nothing_and_comes_last(size):
    units = np.repeat(np.arange(5), size)
    view = view_of(15, units, 4)
    copy = np.concatenate([np.arange(5 * size), np.arange(size, 3 * size)])
    weights = view.weights[copy] / np.bincount(copy)[copy][:, None]
    doubled = View(view.covariance[np.ix_(copy, copy)], weights, np.concatenate([units, np.repeat([5, 6], size)]))
    selection = joint([doubled], 7, 7)
    once = joint([view], 5, 5)
    np.testing.assert_array_equal(selection.order[:5], once.order)
    np.testing.assert_allclose(selection.gains[:5], once.gains, rtol=1e-5)
    np.testing.assert_array_equal(selection.order[5:], [5, 6])
    np.testing.assert_allclose(selection.gains[5:], 0.0, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2])
def test_dead_and_irrelevant_units_come_last_in_index_order(size):
    view = view_of(16, np.repeat(np.arange(7), size), 3)
    covariance, weights = view.covariance.copy(), view.weights.copy()
    for unit in (1, 4, 5):
        own = np.flatnonzero(view.units == unit)
        covariance[own] = covariance[:, own] = 0.0
    # The variance that float64 leaves of a constant is rounding noise: at worst it goes with the first target.
    cross = covariance @ weights[:, 0]
    covariance[4 * size] = covariance[:, 4 * size] = 1e-14 * cross / np.sqrt(weights[:, 0] @ cross)
    covariance[4 * size, 4 * size] = 1e-28
    selection = joint([View(covariance, weights, view.units)], 7, 7)
    assert selection.order[4:].tolist() == [1, 4, 5]
    assert not selection.gains[4:].any()
    assert (selection.gains[:4] > 0).all()


@pytest.mark.parametrize("noise", [1e-6, 1e3])
def test_extreme_noise_stays_finite_and_ordered(noise):
    for units in (np.arange(-20, 41).clip(-1), np.repeat(np.arange(-4, 16), 3).clip(-1)):
        for targets in (5, 83):
            view = view_of(21, units, targets, rank=47)
            selection = joint([view], int(units.max()) + 1, 13, noise=noise)
            assert np.isfinite(selection.gains).all()
            assert selection.curve[-1] == pytest.approx(direct(view, selection.kept, noise), rel=2e-3)


def test_nothing_to_tell():
    selection = joint([View(np.eye(5), np.zeros((5, 2)), np.arange(5))], 5, 3)
    assert selection.order.tolist() == [0, 1, 2]
    assert not selection.gains.any()
    assert joint([View(np.zeros((5, 5)), np.ones((5, 2)), np.arange(5))], 5, 2).kept.tolist() == [0, 1]
    no_targets = View(np.eye(5), np.ones((5, 0)), np.arange(5))
    assert joint([no_targets], 5, 2).kept.tolist() == [0, 1]


def test_ties_go_to_the_lowest_index():
    selection = joint([View(np.eye(7), np.eye(7)[:, ::-1].copy(), np.arange(7))], 7, 7)
    assert selection.order.tolist() == list(range(7))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 3])
def test_fewer_rows_than_features(dtype, size):
    rng = np.random.default_rng(17)
    from onnxmi.information import MomentAccumulator

    accumulator = MomentAccumulator()
    accumulator.update(rng.normal(size=(23, 61 * size)).astype(dtype))
    view = View(accumulator.moments().covariance, rng.normal(size=(61 * size, 7)), np.repeat(np.arange(61), size))
    selection = joint([view], 61, 61)
    assert np.isfinite(selection.gains).all()
    # 22 directions explain everything: the units after them tell next to nothing.
    assert selection.gains[-(22 // size + 2) :].max() < 1e-3 < selection.gains[0]
    total = direct(view, range(61), 0.01)
    assert selection.curve[-1] == pytest.approx(total, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_quota_is_kept_in_every_part(seed):
    rng = np.random.default_rng(seed)
    parts = rng.permutation(np.repeat([3, 5, 8], [3, 4, 5]))
    view = view_of(seed, range(12), 3)
    selection = joint([view], 12, 6, parts=parts, quota=2)
    assert np.bincount(parts[selection.kept])[[3, 5, 8]].tolist() == [2, 2, 2]
    np.testing.assert_allclose(selection.curve[-1], direct(view, selection.kept, 0.01), rtol=1e-5)


def test_a_quota_is_kept_when_nothing_is_left_to_tell():
    parts = np.array([0, 0, 0, 1, 1, 1])
    selection = joint([View(np.eye(6), np.zeros((6, 2)), np.arange(6))], 6, 2, parts=parts, quota=1)
    assert selection.kept.tolist() == [0, 3]
    assert joint([View(np.eye(6), np.zeros((6, 2)), np.arange(6))], 6, 0, parts=parts, quota=0).kept.size == 0


def test_labels_as_targets_find_the_features_that_separate():
    rng = np.random.default_rng(18)
    labels = np.repeat([0, 1], 211)
    side = np.where(labels, 1, -1)[:, None]
    rows = rng.normal(size=(422, 7)) + side * np.eye(7)[3] + 2 * side * np.eye(7)[5]
    total = Moments.of(rows)
    view = View(total.covariance, ClassMeans.of(rows, labels).weights(total), np.arange(7))
    assert joint([view], 7, 2).order.tolist() == [5, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": 0.0}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"views": []}, "views"),
        ({"keep": 8}, "cannot keep"),
        ({"n_units": 6, "keep": 2}, "units of a view"),
        ({"quota": 2}, "go together"),
        ({"parts": np.zeros(3, int), "quota": 2}, "expected"),
        ({"parts": np.arange(7), "quota": 2}, "quota"),
        ({"parts": np.zeros(7, int), "quota": 4}, "keep is 3"),
    ],
)
def test_misuse(change, message):
    arguments: dict[str, object] = {"views": [view_of(19, range(7), 3)], "n_units": 7, "keep": 3} | change
    views, n_units, keep = (arguments.pop(name) for name in ("views", "n_units", "keep"))
    with pytest.raises(ValueError, match=message):
        joint(views, n_units, keep, **arguments)


def test_misuse_of_a_view():
    for arguments in (
        (np.eye(3)[:2], np.ones((3, 2)), np.arange(3)),
        (np.eye(3), np.ones((2, 2)), np.arange(3)),
        (np.eye(3), np.ones((3, 2)), np.arange(2)),
        (np.eye(3), np.ones((3, 2)), np.arange(3), -1.0),
        (np.full((3, 3), np.nan), np.ones((3, 2)), np.arange(3)),
    ):
        with pytest.raises(ValueError, match=r"expected|fit|0 or more|finite"):
            View(*arguments)
    with pytest.raises(ValueError, match="not a covariance"):
        joint([View(1.0 - 2 * np.eye(3) + 2, np.ones((3, 2)), np.arange(3))], 3, 1)


def test_features_that_hold_only_rounding_are_left_out() -> None:
    rng = np.random.default_rng(11)
    live_part = rng.normal(size=(500, 7))
    covariance = np.zeros((11, 11))
    covariance[:7, :7] = np.cov(live_part.T)
    noise = rng.normal(size=(4, 4)) * 1e-21  # no covariance at all: what rounding leaves of constant features
    covariance[7:, 7:] = noise + noise.T + np.diag(np.full(4, 1e-21))
    view = View(covariance, rng.normal(size=(11, 3)), np.arange(11))
    chosen = joint([view], 11, 5)
    assert set(chosen.kept.tolist()) <= set(range(7))
