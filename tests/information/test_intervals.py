"""Intervals against published values, against scipy, and by how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from onnxmi.evaluation.output_metrics.output_metric import ratio
from onnxmi.information import intervals


@pytest.mark.parametrize(
    ("lost", "gained", "trials", "confidence", "low", "high"),
    [
        # Fagerland, Lydersen and Laake (2014): airway hyper-responsiveness before and after stem cell transplantation
        (1, 7, 21, 0.95, -0.517, -0.026),
        # R, PropCIs::scoreci.mp(28, 25, 618, 0.90), which is Tango's
        (25, 28, 618, 0.90, -0.0247, 0.0148),
    ],
)
def test_tangos_interval_has_the_published_values(lost, gained, trials, confidence, low, high):
    found = intervals.difference_of_shares(lost, gained, trials, confidence)
    assert found == pytest.approx((low, high), abs=6e-4 if confidence == 0.95 else 6e-5)


def test_tangos_interval_without_any_flip_is_that_of_wilson():
    z2 = stats.norm.ppf(0.975) ** 2
    assert intervals.difference_of_shares(0, 0, 238) == pytest.approx((-z2 / (238 + z2), z2 / (238 + z2)))
    assert intervals.difference_of_shares(5, 0, 5)[1] == 1.0
    assert intervals.difference_of_shares(0, 0, 0) == (-1.0, 1.0)


def test_swapping_the_models_mirrors_tangos_interval():
    low, high = intervals.difference_of_shares(3, 11, 127)
    assert intervals.difference_of_shares(11, 3, 127) == pytest.approx((-high, -low))


@pytest.mark.parametrize(("hits", "trials"), [(0, 238), (3, 238), (1, 1), (127, 127), (59, 131), (9999, 10007)])
def test_the_exact_interval_of_a_share(hits, trials):
    wanted = stats.binomtest(hits, trials).proportion_ci(method="exact")
    assert intervals.share(hits, trials) == pytest.approx((wanted.low, wanted.high), rel=1e-9, abs=1e-12)


def test_the_rule_of_three():
    assert intervals.share(0, 300, confidence=0.9)[1] == pytest.approx(3 / 300, rel=0.01)


@pytest.mark.parametrize("freedom", [1, 2, 7, 61, 100_003])
def test_students_quantiles(freedom):
    assert intervals.student_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_the_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=37)
    wanted = stats.t.interval(0.95, 36, values.mean(), stats.sem(values))
    assert intervals.mean(values) == pytest.approx(wanted)
    assert intervals.mean(values[:1]) is None
    assert intervals.mean(np.array([1.0, np.inf])) is None


def test_what_samples_resolve():
    assert intervals.resolution(256) == pytest.approx(0.0206, abs=1e-4)  # about two points
    assert intervals.resolution(4001) < intervals.resolution(257) / 3.9
    assert intervals.resolution(3) > 0.6
    assert intervals.resolution(0) == 1.0


def test_independent_answers_count_one_each():
    missed = (np.arange(101) < 7).astype(float)
    weights = np.ones(101)
    share = missed.mean()
    assert intervals.effective_trials(missed - share, weights, share * (1 - share)) == 101


def test_answers_of_one_sample_that_are_alike_count_once():
    """53 samples of 11 answers each, all right or all wrong."""
    missed = 11.0 * (np.arange(53) < 7)
    share = 7 / 53
    found = intervals.effective_trials(missed - share * 11, np.full(53, 11.0), share * (1 - share))
    assert found == pytest.approx(53, rel=0.05)


def test_answers_that_have_nothing_to_do_with_each_other_count_each():
    draw = np.random.default_rng(0).random((997, 11)) < 0.2
    missed, share = draw.sum(1), draw.mean()
    found = intervals.effective_trials(missed - share * 11, np.full(997, 11.0), share * (1 - share))
    assert found == pytest.approx(997 * 11, rel=0.1)


def test_no_wrong_answer_tells_as_much_as_one():
    """The bound of none in 53 samples of 11 answers is below that of one, and far below that of 53 answers."""
    weights, one = np.full(53, 11.0), np.zeros(53)
    one[3] = 1.0
    share = 1 / weights.sum()
    trials = intervals.effective_trials(one - share * weights, weights, share * (1 - share))
    assert intervals.effective_trials(np.zeros(53), weights, 0.0) == pytest.approx(trials)
    assert intervals.share(0, trials)[1] < intervals.share(1, trials)[1] < intervals.share(0, 53)[1] / 5


def test_no_weight_is_no_trial():
    assert intervals.effective_trials(np.zeros(3), np.zeros(3), 0.1) == 0.0
    assert intervals.share(0, 0) == (0.0, 1.0)


def _parts(seed: int, count: int = 211) -> np.ndarray:
    generator = np.random.default_rng(seed)
    trials = generator.integers(1, 9, count)
    return np.stack([generator.binomial(trials, 0.7), trials], 1).astype(float)


def test_the_bootstrap_is_the_same_for_the_same_seed():
    found = [intervals.bootstrap(ratio, _parts(0), _parts(1), seed=seed) for seed in (3, 3, 4)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_the_bootstrap_is_that_of_scipy():
    first, second = _parts(0), _parts(1)

    def figure(a, b, c, d, axis):
        return a.sum(axis) / b.sum(axis) - c.sum(axis) / d.sum(axis)

    columns = (*first.T, *second.T)
    wanted = stats.bootstrap(columns, figure, paired=True, method="percentile", n_resamples=4000, rng=1)
    low, high = wanted.confidence_interval
    assert intervals.bootstrap(ratio, first, second) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_samples_in_blocks_are_drawn_as_samples_at_once(monkeypatch):
    whole = intervals.bootstrap(ratio, _parts(0), _parts(1))
    monkeypatch.setattr(intervals, "_BLOCK", 211 * 7)
    assert intervals.bootstrap(ratio, _parts(0), _parts(1)) == pytest.approx(whole)


def test_models_that_are_drawn_alike_and_are_alike_differ_by_nothing():
    assert intervals.bootstrap(ratio, _parts(0), _parts(0)) == (0.0, 0.0)
    assert intervals.bootstrap(ratio, _parts(0)[:1], _parts(0)[:1]) is None
    assert intervals.bootstrap(ratio, np.zeros((7, 2)), np.zeros((7, 2))) is None


@pytest.mark.parametrize(("trials", "down", "up"), [(131, 0.02, 0.01), (257, 0.03, 0.03)])
def test_tangos_interval_holds_the_difference_as_often_as_it_says(trials, down, up):
    draws = np.random.default_rng(0).multinomial(trials, [down, up, 1 - down - up], size=600)
    held = [low <= down - up <= high for low, high in (intervals.difference_of_shares(*d[:2], trials) for d in draws)]
    assert 0.92 <= np.mean(held) <= 0.99
