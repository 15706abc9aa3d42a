"""Ridges by cross-validation over parts of the samples."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.information import Missing, Moments, fit_in_folds, fit_missing

INPUTS, OUTPUTS = 7, 5


def missing(rows: np.ndarray, results: np.ndarray) -> Missing:
    return Missing.of_joint(Moments.of(np.concatenate([rows, results], axis=1)), rows.shape[1])


def drawn(rng: np.random.Generator, count: int, slope: np.ndarray, noise: float) -> Missing:
    rows = rng.normal(size=(count, INPUTS)) + 3.0
    return missing(rows, rows @ slope + noise * rng.normal(size=(count, OUTPUTS)))


def test_merged_parts_are_the_whole() -> None:
    rng = np.random.default_rng(3)
    rows, results = rng.normal(size=(31, INPUTS)) + 2.0, rng.normal(size=(31, OUTPUTS)) - 5.0
    whole = missing(rows, results)
    parts = [missing(rows[a:b], results[a:b]) for a, b in ((0, 3), (3, 14), (14, 31))]
    made = Missing.merged(parts)
    assert made.count == 31
    for name in ("mean_x", "mean_y", "gram", "cross", "variance"):
        np.testing.assert_allclose(getattr(made, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
    assert Missing.merged([whole]) is whole


def test_a_clear_law_is_fitted_to_all_parts() -> None:
    rng = np.random.default_rng(5)
    slope = rng.normal(size=(INPUTS, OUTPUTS))
    parts, held = [drawn(rng, 43, slope, 0.1) for _ in range(4)], drawn(rng, 13, slope, 0.1)
    plain = np.zeros((INPUTS, OUTPUTS))
    made = fit_in_folds(parts, held, plain, np.zeros(OUTPUTS))
    assert made.used
    assert made.ridge <= 1e-2
    assert made.error_repaired == pytest.approx(OUTPUTS * 0.1**2, rel=0.3)
    np.testing.assert_allclose(made.weights, slope, atol=0.05)


def test_few_judging_rows_do_not_decide_alone() -> None:
    """Noise alone: three rows that judge by themselves mostly find a ridge that seems to predict it."""
    taken = {"judged": 0.0, "folds": 0.0}
    for seed in range(23):
        rng = np.random.default_rng(seed)
        parts, held = [drawn(rng, 5, np.zeros((INPUTS, OUTPUTS)), 1.0) for _ in range(4)], None
        held = drawn(rng, 3, np.zeros((INPUTS, OUTPUTS)), 1.0)
        plain = np.zeros((INPUTS, OUTPUTS))
        judged = fit_missing(Missing.merged(parts), held, plain, np.zeros(OUTPUTS))
        folds = fit_in_folds(parts, held, plain, np.zeros(OUTPUTS))
        taken["judged"] += float(np.square(judged.weights).sum())
        taken["folds"] += float(np.square(folds.weights).sum())
    assert taken["folds"] < 0.1 * taken["judged"]


def test_one_part_does_not_outvote_the_others() -> None:
    """One sample far out, that a small ridge happens to predict: its gain is no more than its standard error."""
    rng = np.random.default_rng(11)
    parts = [drawn(rng, 17, np.zeros((INPUTS, OUTPUTS)), 0.01) for _ in range(3)]
    rows = rng.normal(size=(17, INPUTS)) * 0.1
    rows[0, 0] = 40.0
    far = missing(rows, np.outer(rows[:, 0], np.ones(OUTPUTS)))
    made = fit_in_folds([*parts, far], None, np.zeros((INPUTS, OUTPUTS)), np.zeros(OUTPUTS))
    assert made.ridge == np.inf


def test_what_is_missing_of_other_weights_is_added_to_them() -> None:
    rng = np.random.default_rng(7)
    slope, prior = rng.normal(size=(INPUTS, OUTPUTS)), rng.normal(size=(INPUTS, OUTPUTS))
    rows = [rng.normal(size=(43, INPUTS)) for _ in range(4)]
    plain = rng.normal(size=(INPUTS, OUTPUTS))
    of_prior = [missing(x, x @ (slope - prior)) for x in rows]
    for made in (
        fit_in_folds(of_prior, None, plain, np.zeros(OUTPUTS), prior=prior),
        fit_missing(of_prior[0], of_prior[1], plain, np.zeros(OUTPUTS), prior=prior),
    ):
        np.testing.assert_allclose(made.weights, slope, atol=1e-3)
        assert made.error_plain == pytest.approx(float(np.square(plain - slope).sum()), rel=0.4)
    kept = fit_in_folds(of_prior, None, slope, np.zeros(OUTPUTS), prior=prior)
    assert not kept.used
    assert np.array_equal(kept.weights, slope)
