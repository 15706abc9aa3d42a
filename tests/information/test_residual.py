"""What the plain cut misses: from the moments of all features, or from those of rows side by side."""

import numpy as np
import pytest

from onnxmi.information import RIDGES, Missing, Moments, fit_missing
from tests.support.information import fit, output_error

FEATURES, OUTPUTS, ROWS = 11, 5, 401
KEPT = np.array([9, 0, 4, 7])


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Rows of dependent features about means of their own, and weights."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS, FEATURES)) @ rng.normal(size=(FEATURES, FEATURES)) + 3 * rng.normal(size=FEATURES)
    return rows, rng.normal(size=(FEATURES, OUTPUTS))


def of_rows(x: np.ndarray, y: np.ndarray) -> Missing:
    """By definition."""
    dx, dy = x - x.mean(0), y - y.mean(0)
    gram, cross = dx.T @ dx / len(x), dx.T @ dy / len(x)
    return Missing(len(x), x.mean(0), y.mean(0), gram, cross, float(np.square(dy).sum()) / len(x))


def assert_alike(left: Missing, right: Missing) -> None:
    assert left.count == right.count
    for name in ("mean_x", "mean_y", "gram", "cross", "variance"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_of_a_cut_and_of_rows_side_by_side(drawn) -> None:
    rows, weights = drawn
    cut = np.setdiff1d(np.arange(FEATURES), KEPT)
    x, y = rows[:, KEPT], rows[:, cut] @ weights[cut]
    assert_alike(Missing.of_cut(Moments.of(rows), KEPT, weights), of_rows(x, y))
    assert_alike(Missing.of_joint(Moments.of(np.hstack([x, y])), len(KEPT)), of_rows(x, y))


def test_the_error_is_that_on_the_rows(drawn) -> None:
    rows, weights = drawn
    moments, rng = Moments.of(rows), np.random.default_rng(1)
    missing = Missing.of_cut(moments, KEPT, weights)
    change, shift = rng.normal(size=(len(KEPT), OUTPUTS)), rng.normal(size=OUTPUTS)
    given = rows[:, KEPT] @ (weights[KEPT] + change) + shift
    expected = np.square(rows @ weights - given).sum(axis=1).mean()
    assert missing.error(change, shift) == pytest.approx(expected)
    new = weights[KEPT] + change, shift
    assert missing.error(change, shift) == pytest.approx(output_error(moments, KEPT, weights, np.zeros(OUTPUTS), *new))
    assert missing.total_variance(weights[KEPT]) == pytest.approx((rows @ weights).var(axis=0).sum())


def test_a_repair_needs_no_more_than_what_is_missing(drawn) -> None:
    """Rows of what is missing, measured beside those of what stays, give the repair that all features' moments give."""
    rows, weights = drawn
    cut = np.setdiff1d(np.arange(FEATURES), KEPT)
    beside = np.hstack([rows[:, KEPT], rows[:, cut] @ weights[cut]])
    bias = np.arange(OUTPUTS, dtype=np.float64)
    for held_out in (None, 100):
        parts = [slice(None)] if held_out is None else [slice(held_out, None), slice(held_out)]
        whole = [Moments.of(rows[part]) for part in parts]
        joint = [Missing.of_joint(Moments.of(beside[part]), len(KEPT)) for part in parts]
        left = fit(whole[0], None if held_out is None else whole[1], KEPT, weights, bias)
        right = fit_missing(joint[0], None if held_out is None else joint[1], weights[KEPT], bias, RIDGES)
        assert left.ridge == right.ridge
        assert left.error_plain == pytest.approx(right.error_plain)
        assert left.error_repaired == pytest.approx(right.error_repaired)
        np.testing.assert_allclose(left.weights, right.weights, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(left.bias, right.bias, rtol=1e-6, atol=1e-9)


def test_nothing_is_missing_where_all_stays(drawn) -> None:
    rows, weights = drawn
    missing = Missing.of_cut(Moments.of(rows), range(FEATURES), weights)
    assert missing.variance == 0.0
    assert not missing.cross.any()
    assert missing.error(np.zeros((FEATURES, OUTPUTS)), np.zeros(OUTPUTS)) == 0.0


def test_a_cut_that_loses_everything_misses_everything(drawn) -> None:
    rows, weights = drawn
    missing = Missing.of_cut(Moments.of(rows), [], weights)
    assert missing.gram.shape == (0, 0)
    assert missing.cross.shape == (0, OUTPUTS)
    assert missing.variance == pytest.approx((rows @ weights).var(axis=0).sum())
    repair = fit_missing(missing, missing, np.zeros((0, OUTPUTS)), np.zeros(OUTPUTS))
    np.testing.assert_allclose(repair.bias, (rows @ weights).mean(axis=0))


def test_misuse() -> None:
    with pytest.raises(ValueError, match="0 rows"):
        Missing.of_joint(Moments.empty((), 3), 2)
    with pytest.raises(ValueError, match="0 rows"):
        Missing.of_cut(Moments.empty((), 3), [0], np.ones((3, 1)))
    with pytest.raises(ValueError, match="do not fit"):
        Missing.of_cut(Moments.of(np.ones((2, 3))), [0], np.ones((2, 1)))
