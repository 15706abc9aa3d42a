"""Intervals: where a share, a mean or any other figure of some samples lies for all samples like them."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from onnxmi.typing import Floats

Span = tuple[float, float]
Combine = Callable[[Floats, Floats], Floats]
"""((samples, parts), (draws, samples) how often each sample is drawn) -> (draws,) the figure of each draw."""

CONFIDENCE = 0.95
RESAMPLES = 2000
USUAL_FLIPS = 0.04  # share of answers that differ where a cut model loses about a point
_BISECTIONS = 100  # halvings: enough for the last bit of a double
_BLOCK = 1 << 19  # draws times samples that are held at once, several times over


# -- shares -----------------------------------------------------------------------------------------------------------


def share(hits: float, trials: float, confidence: float = CONFIDENCE) -> Span:
    """Return the interval of a share, by Clopper and Pearson (1934).

    Parameters
    ----------
    hits, trials : float
        Counts. They need not be whole: a design effect makes them smaller (Korn and Graubard 1998).
    confidence : float
        To both sides.

    Returns
    -------
    tuple of float
        Never of no width: none in 238 lies in [0, 0.0154].
    """
    if trials <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    # At either end the beta distribution degenerates, and the bound is known.
    low = 0.0 if hits <= 0 else _beta_quantile(tail, hits, trials - hits + 1)
    high = 1.0 if hits >= trials else _beta_quantile(1 - tail, hits + 1, trials - hits)
    return low, high


def difference_of_shares(lost: float, gained: float, trials: float, confidence: float = CONFIDENCE) -> Span:
    """Return the interval of the difference of two shares of the same trials: Tango's score interval (1998).

    It holds where few pairs differ, which is where the normal interval of paired differences is too narrow.

    Parameters
    ----------
    lost, gained : float
        Trials that only the first, and only the second, answers right.
    trials : float
        All of them.
    confidence : float
        To both sides.

    Returns
    -------
    tuple of float
        Where (lost - gained) / trials lies.

    References
    ----------
    T. Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
    Statistics in Medicine 17, 891-908, 1998.
    """
    if trials <= 0:
        return -1.0, 1.0
    bound = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (lost - gained) / trials

    def score(delta: float) -> float:
        # The likelihood under a difference of delta is largest at the root of a quadratic in the second share.
        linear = -(lost + gained) + (2 * trials - lost + gained) * delta
        constant = -gained * delta * (1 - delta)
        only_second = (math.sqrt(max(linear * linear - 8 * trials * constant, 0.0)) - linear) / (4 * trials)
        variance = trials * (2 * only_second + delta * (1 - delta))
        return (
            (lost - gained - trials * delta) / math.sqrt(variance)
            if variance > 0
            else math.copysign(math.inf, middle - delta)
        )

    # The score falls with delta, and crosses 0 at the estimate: a bound lies on each side of it.
    low = -1.0 if middle <= -1 else _falling_root(score, bound, -1.0, middle)
    high = 1.0 if middle >= 1 else _falling_root(score, -bound, middle, 1.0)
    return low, high


def effective_trials(errors: Floats, weights: Floats, binomial: float, confidence: float = CONFIDENCE) -> float:
    """Return how many independent trials would tell as much about a weighted share as these samples do.

    Answers of one sample (its positions, its boxes) are alike, and samples count differently. The variance of a share
    between samples, over that of independent trials, is the design effect (Kish 1965); Korn and Graubard (1998) put it
    into the exact interval, and have its degrees of freedom count.

    Parameters
    ----------
    errors : (samples,) float64
        What each sample's answers are off the share that all have: right answers less share times answers.
    weights : (samples,) float64
        How much each sample counts; how many answers it has, where they count alike.
    binomial : float
        Variance of one trial: p (1 - p) for a share.
    confidence : float
        Of the interval it is for.
    """
    total, squares = float(weights.sum()), float(np.square(weights).sum())
    if total <= 0:
        return 0.0
    if (weights == 1).all():  # one answer a sample: independent trials as they are
        return float(total)
    count = int(np.count_nonzero(weights))
    # Kish's effective size.
    fewest = total * total / squares  # whole samples alike in all their answers
    if count < 2:
        return fewest
    if binomial <= 0:  # no answer is wrong: as many trials as if one were
        largest = float(weights.max())
        share = min(largest, 1.0) / total
        errors = -share * weights
        errors[int(weights.argmax())] += share * total
        binomial = share * (1 - share)
    # Samples are the independent units; answers within one are not.
    variance = float(np.square(errors).sum()) * count / (count - 1) / total**2
    # The variance is itself estimated: few samples widen the interval as Student's distribution does.
    narrower = NormalDist().inv_cdf((1 + confidence) / 2) / student_quantile((1 + confidence) / 2, count - 1)
    # Of how many single answers a share would have this variance (the design effect).
    trials = binomial / variance * narrower * narrower if variance > 0 else fewest
    return float(min(max(trials, fewest), max(total, fewest)))


def resolution(samples: int, flips: float = USUAL_FLIPS) -> float:
    """Return the smallest loss that some samples tell from none, as a share (one side of 95 %).

    Parameters
    ----------
    samples : int
        How many, each with one answer.
    flips : float
        Share of answers that differ, to both sides. 256 samples resolve 2.1 points if 4 % of them do.
    """
    if samples <= 0:
        return 1.0
    unseen = 1 - 0.05 ** (1 / samples)  # what may be lost where no answer differs
    return float(min(max(unseen, NormalDist().inv_cdf(0.95) * math.sqrt(flips / samples)), 1.0))


# -- means, and what is none ------------------------------------------------------------------------------------------


def mean(values: Floats, confidence: float = CONFIDENCE) -> Span | None:
    """Return the interval of a mean, by Student; None for fewer than two values or where one is not finite."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    half = student_quantile((1 + confidence) / 2, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    middle = float(values.mean())
    return middle - half, middle + half


def bootstrap(
    combine: Combine,
    first: Floats,
    second: Floats,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Span | None:
    """Return the interval of what a figure falls by between two models, from paired resamples (percentiles).

    Parameters
    ----------
    combine : callable((samples, parts), (draws, samples)) -> (draws,)
        The figure, from what each sample contributes and how often it is drawn.
    first, second : (samples, parts) float64
        What each sample contributes to the figures of the two models. Both are drawn alike.
    confidence : float
        To both sides.
    resamples : int
        How many.
    seed : int
        Of the draws.

    Returns
    -------
    tuple of float or None
        Of first less second; None for fewer than two samples, or where too many draws have no figure.

    References
    ----------
    B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    count = len(first)
    if count < 2:
        return None
    generator, found = np.random.default_rng(seed), []
    block = max(_BLOCK // count, 1)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        # The same draw for both models: what varies from sample to sample alike cancels in the difference.
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
        with np.errstate(all="ignore"):  # a draw without any positive has no figure
            found.append(combine(first, drawn) - combine(second, drawn))
    draws = np.concatenate(found)
    draws = draws[np.isfinite(draws)]
    # Where most draws have no figure, the others are no random choice of them.
    if len(draws) < resamples / 2:
        return None
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# -- quantiles --------------------------------------------------------------------------------------------------------


def student_quantile(chance: float, freedom: int) -> float:
    """Return the quantile of Student's distribution, for a chance of at least a half."""
    # T^2 / (freedom + T^2) is of a beta distribution with 1/2 and freedom/2
    beta = _beta_quantile(2 * chance - 1, 0.5, freedom / 2)
    return math.sqrt(freedom * beta / (1 - beta)) if beta < 1 else math.inf


def _beta_quantile(chance: float, a: float, b: float) -> float:
    return _falling_root(lambda x: -_beta_share(x, a, b), -chance, 0.0, 1.0)


def _falling_root(function: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Return where a falling function passes a level, by bisection."""
    # Bisection: no derivative is needed, and a flat stretch cannot throw it off.
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):  # nothing lies between them
            break
        if function(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_share(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below the mean
        return 1 - _beta_share(1 - x, b, a)
    # In logarithms: the gamma functions themselves overflow from 171 on.
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logs) * _continued_fraction(x, a, b) / a


def _continued_fraction(x: float, a: float, b: float, steps: int = 10_000) -> float:
    """Return Lentz's evaluation of the fraction of the incomplete beta function (DLMF 8.17.22)."""
    tiny = 1e-300  # in place of a zero denominator
    upper, lower = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1), tiny)
    value = lower
    for step in range(1, steps):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        before = value
        for term in (even, odd):
            lower = 1 / _nonzero(1 + term * lower, tiny)
            upper = _nonzero(1 + term / upper, tiny)
            value *= lower * upper
        if abs(value - before) <= 1e-15 * abs(value):
            break
    return value


def _nonzero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
