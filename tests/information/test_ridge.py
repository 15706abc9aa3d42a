from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmi.information import RIDGES, Missing, Moments, NotFiniteError, regress_cross, ridge_solver
from onnxmi.information.ridge import NARROW, lowest, regression_of
from tests.support.information import fit, output_error, regress

seeds = st.integers(0, 2**32 - 1)
KEPT = [6, 0, 3]


def layer(seed: int, rows: int = 101, features: int = 7, rank: int | None = None):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, rank or features))
    x = hidden @ rng.normal(size=(hidden.shape[1], features)) + rng.normal(size=features) * 3
    return x, rng.normal(size=(features, 5)), rng.normal(size=5)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_least_squares_agrees_with_numpy(seed):
    x, weights, bias = layer(seed)
    new_weights, new_bias = regress(Moments.of(x), KEPT, weights, bias, ridge=0.0)
    design = np.concatenate([x[:, KEPT], np.ones((len(x), 1))], axis=1)
    expected = np.linalg.lstsq(design, x @ weights + bias, rcond=None)[0]
    np.testing.assert_allclose(design @ np.concatenate([new_weights, new_bias[None]]), design @ expected, atol=1e-6)


def test_ridge_is_the_minimum_of_its_objective():
    x, weights, bias = layer(1)
    ridge = 0.3
    new_weights, _ = regress(Moments.of(x), KEPT, weights, bias, ridge=ridge)
    centred, centred_y = x - x.mean(axis=0), (x - x.mean(axis=0)) @ weights
    shift = ridge * centred[:, KEPT].var(axis=0).mean() * len(x)
    design = np.concatenate([centred[:, KEPT], np.sqrt(shift) * np.eye(3)])
    target = np.concatenate([centred_y, np.sqrt(shift) * weights[KEPT]])
    np.testing.assert_allclose(new_weights, np.linalg.lstsq(design, target, rcond=None)[0])


def test_ridge_limits():
    x, weights, bias = layer(2)
    moments = Moments.of(x)
    lost = np.setdiff1d(np.arange(7), KEPT)
    corrected = bias + x.mean(axis=0)[lost] @ weights[lost]
    for ridge in (1e12, np.inf):
        new_weights, new_bias = regress(moments, KEPT, weights, bias, ridge=ridge)
        np.testing.assert_allclose(new_weights, weights[KEPT], rtol=1e-9)
        np.testing.assert_allclose(new_bias, corrected, rtol=1e-9)
    almost = regress(moments, KEPT, weights, bias, ridge=1e-12)
    np.testing.assert_allclose(almost[0], regress(moments, KEPT, weights, bias, ridge=0.0)[0], rtol=1e-6)


def test_keeping_all_is_the_identity():
    x, weights, bias = layer(3)
    for ridge in (0.0, 0.1, np.inf):
        new_weights, new_bias = regress(Moments.of(x), range(7), weights, bias, ridge=ridge)
        np.testing.assert_allclose(new_weights, weights, rtol=1e-12)
        np.testing.assert_allclose(new_bias, bias, rtol=1e-12)


def test_keeping_nothing_leaves_the_mean():
    x, weights, bias = layer(4)
    new_weights, new_bias = regress(Moments.of(x), [], weights, bias, ridge=0.1)
    assert new_weights.shape == (0, 5)
    np.testing.assert_allclose(new_bias, (x @ weights + bias).mean(axis=0))


def test_output_error_is_exact_on_any_rows():
    x, weights, bias = layer(5)
    new = regress(Moments.of(x), KEPT, weights, bias, ridge=0.01)
    other = layer(6)[0]
    expected = np.square(other @ weights + bias - other[:, KEPT] @ new[0] - new[1]).sum(axis=1).mean()
    assert output_error(Moments.of(other), KEPT, weights, bias, *new) == pytest.approx(expected)


def test_a_different_model_may_give_the_targets():
    x, weights, bias = layer(7)
    other = np.concatenate([x[:, :3] + 0.1, np.tanh(x[:, 3:5])], axis=1)
    y = x @ weights + bias
    joint = Moments.of(np.concatenate([other, y], axis=1))
    new_weights, new_bias = regress_cross(
        joint.covariance[:5, :5], joint.covariance[:5, 5:], joint.mean[:5], joint.mean[5:], np.zeros((5, 5)), 0.0
    )
    design = np.concatenate([other, np.ones((len(x), 1))], axis=1)
    expected = np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(np.concatenate([new_weights, new_bias[None]]), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rows", [1, 2, 11])
@pytest.mark.parametrize("ridge", [0.0, 1e-9, 1e-6, 1e-3])
def test_few_rows_do_not_blow_up(rows, ridge):
    x, weights, bias = layer(8, rows=rows, features=47)
    kept = np.arange(0, 47, 2)
    new_weights, new_bias = regress(Moments.of(x), kept, weights, bias, ridge=ridge)
    assert np.isfinite(new_bias).all()
    # The direction that was not seen keeps its weight, so the correction is no larger than what it corrects needs.
    assert np.linalg.norm(new_weights - weights[kept]) < 30 * np.linalg.norm(weights)
    error = output_error(Moments.of(x), kept, weights, bias, new_weights, new_bias)
    assert error <= output_error(Moments.of(x), kept, weights, bias, weights[kept], bias) * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_constant_and_duplicate_features_and_scales(scale):
    x, weights, bias = layer(9)
    x[:, 6], x[:, 3] = 2.0, x[:, 0]
    x = x * scale
    for ridge in (0.0, 1e-6):
        new_weights, new_bias = regress(Moments.of(x), KEPT, weights, bias, ridge=ridge)
        residual = x @ weights + bias - x[:, KEPT] @ new_weights - new_bias
        design = np.stack([x[:, 0] / scale, np.ones(len(x))], axis=1)
        best = x @ weights + bias - design @ np.linalg.lstsq(design, x @ weights + bias, rcond=None)[0]
        assert np.square(residual).sum() == pytest.approx(np.square(best).sum(), rel=1e-4)
        assert np.abs(new_weights).max() < 100


@pytest.mark.parametrize("shift", [1e-8, 1.0001e-6])
def test_an_indefinite_gram_matrix_is_survived(shift):
    rng = np.random.default_rng(10)
    vectors = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    truth = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    gram = vectors @ np.diag(truth + np.array([0, 0, 0, 0, 1e-8, -1e-7, -1e-6])) @ vectors.T
    cross = vectors @ np.diag(truth + 1e-6) @ vectors.T @ np.ones((7, 2))
    ridge = shift / np.diagonal(gram).mean()
    new_weights, _ = regress_cross(gram, cross, np.zeros(7), np.zeros(2), np.zeros((7, 2)), ridge)
    assert np.linalg.norm(new_weights) <= np.linalg.norm(np.ones((7, 2)))


def test_held_out_rows_choose_the_ridge():
    x, weights, bias = layer(11, rows=2003)
    train, test = Moments.of(x[:1009]), Moments.of(x[1009:])
    repair = fit(train, test, KEPT, weights, bias)
    assert repair.used
    assert repair.error_repaired < repair.error_plain
    assert repair.error_repaired == pytest.approx(output_error(test, KEPT, weights, bias, repair.weights, repair.bias))
    errors = {
        ridge: output_error(test, KEPT, weights, bias, *regress(train, KEPT, weights, bias, ridge=ridge))
        for ridge in (1e-6, 1e-2, 1.0)
    }
    chosen = fit(train, test, KEPT, weights, bias, tuple(errors))
    assert errors[chosen.ridge] == min(errors.values())


def test_few_rows_choose_a_large_ridge_and_many_a_small_one():
    x, weights, bias = layer(12, rows=4001, features=31)
    test, kept = Moments.of(x[2003:]), range(0, 31, 2)
    few, many = (fit(Moments.of(x[:rows]), test, kept, weights, bias) for rows in (11, 2003))
    assert many.ridge < few.ridge
    assert many.error_repaired < few.error_repaired


@pytest.mark.parametrize("rows", [11, 2003])
def test_without_held_out_rows_cross_validation_does_not_overfit(rows):
    x, weights, bias = layer(13, rows=4001, features=31)
    test, kept = Moments.of(x[2003:]), range(0, 31, 2)
    repair = fit(Moments.of(x[:rows]), None, kept, weights, bias)
    best = fit(Moments.of(x[:rows]), test, kept, weights, bias)
    achieved = output_error(test, kept, weights, bias, repair.weights, repair.bias)
    assert best.error_repaired <= achieved * (1 + 1e-9) < 2 * best.error_repaired


def test_a_repair_that_is_worse_is_not_used():
    x, weights, bias = layer(14, rows=5)
    shifted = x + 100.0 * np.sign(weights.sum(axis=1))
    away = Moments.of(np.zeros((3, 7)))
    repair = fit(Moments.of(shifted), away, KEPT, weights, bias)
    assert not repair.used
    assert repair.error_plain == 0.0 < repair.error_repaired
    np.testing.assert_array_equal(repair.weights, weights[KEPT])
    np.testing.assert_array_equal(repair.bias, bias)


def test_one_row_without_held_out_rows_is_the_plain_cut():
    x, weights, bias = layer(15, rows=1)
    repair = fit(Moments.of(x), None, KEPT, weights, bias)
    assert not repair.used
    assert repair.error_repaired == np.inf
    assert fit(Moments.of(np.zeros((1, 7))), None, KEPT, weights, bias).error_repaired == np.inf


def test_misuse():
    x, weights, bias = layer(16)
    moments = Moments.of(x)
    with pytest.raises(ValueError, match="ridge"):
        regress(moments, KEPT, weights, bias, ridge=-1.0)
    with pytest.raises(ValueError, match="distinct"):
        regress(moments, [0, 0], weights, bias, ridge=1.0)
    with pytest.raises(ValueError, match="distinct"):
        regress(moments, [7], weights, bias, ridge=1.0)
    with pytest.raises(ValueError, match="do not fit"):
        regress(moments, KEPT, weights[:5], bias, ridge=1.0)
    with pytest.raises(ValueError, match="0 rows"):
        regress(Moments.empty((), 7), KEPT, weights, bias, ridge=1.0)
    with pytest.raises(ValueError, match="no ridges"):
        fit(moments, None, KEPT, weights, bias, ())
    with pytest.raises(ValueError, match="do not fit"):
        regress_cross(np.eye(2), np.ones((3, 1)), np.zeros(2), np.zeros(1), np.ones((2, 1)), 1.0)


def test_one_factor_solves_for_any_right_side() -> None:
    rng = np.random.default_rng(8)
    rows, right = rng.normal(size=(61, 7)), rng.normal(size=(7, 3))
    gram = rows.T @ rows / 61
    solve = ridge_solver(gram, 0.1)
    expected = np.linalg.solve(gram + 0.1 * np.diagonal(gram).mean() * np.eye(7), right)
    np.testing.assert_allclose(solve(right), expected, rtol=1e-10)
    np.testing.assert_allclose(solve(2.0 * right), 2.0 * expected, rtol=1e-10)


def test_a_factor_of_what_overflowed_is_refused() -> None:
    with pytest.raises(NotFiniteError, match="too large"):
        ridge_solver(np.full((2, 2), np.inf), 0.1)


@pytest.mark.parametrize("features", [5, NARROW + 3])  # by one decomposition, and by a factor for each ridge
@pytest.mark.parametrize("rank", [None, 4])
def test_one_regression_serves_all_ridges(features: int, rank: int | None) -> None:
    x, weights, _ = layer(19, rows=211, features=features, rank=rank)
    noise = np.random.default_rng(19).normal(size=(len(x), 5))
    joint = Missing.of_joint(Moments.of(np.concatenate([x, x @ weights + noise], axis=1)), features)
    regress_by = regression_of(joint)
    for ridge in RIDGES:
        expected = regress_cross(joint.gram, joint.cross, joint.mean_x, joint.mean_y, None, ridge)
        change, shift = regress_by(ridge)
        # By their results: where features depend on each other, other weights give the same ones.
        np.testing.assert_allclose(x @ change + shift, x @ expected[0] + expected[1], atol=1e-6)


def test_narrow_products_that_overflowed_are_refused() -> None:
    joint = Missing.of_joint(Moments.of(np.random.default_rng(3).normal(size=(11, 7))), 5)
    with pytest.raises(NotFiniteError):
        regression_of(replace(joint, cross=joint.cross * np.inf))


@pytest.mark.parametrize("best", range(8))
def test_the_best_ridge_is_found_by_few(best: int) -> None:
    asked: set[float] = set()

    def error_of(ridge: float) -> float:
        asked.add(ridge)
        return abs(ridges.index(ridge) - best)

    ridges = sorted(RIDGES, reverse=True)
    assert lowest(ridges, error_of) == ridges[best]
    assert len(asked) <= 6


def test_one_ridge_may_be_given() -> None:
    x, weights, bias = layer(20)
    made = fit(Moments.of(x), None, KEPT, weights, bias, (0.1,))
    np.testing.assert_allclose(made.weights, regress(Moments.of(x), KEPT, weights, bias, ridge=0.1)[0])


def test_of_equal_ridges_the_largest_is_taken() -> None:
    assert lowest([3.0, 2.0, 1.0], lambda ridge: 0.0) == 3.0
    assert lowest([3.0], lambda ridge: 0.0) == 3.0
