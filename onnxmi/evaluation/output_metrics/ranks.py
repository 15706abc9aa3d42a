"""Correlation of ranks and the area under the curve, of samples that may be drawn several times."""

from __future__ import annotations

import numpy as np

from onnxmi.typing import Floats, Ints


def rank_correlation(parts: Floats, draws: Floats) -> Floats:
    """Return Spearman's correlation of two scores, in the mean over columns.

    Parameters
    ----------
    parts : (samples, 2 columns) float64
        The one model's scores, then the other's. NaN ranks lowest.
    draws : (draws, samples) float64
        How often each sample is drawn.

    Returns
    -------
    (draws,) float64
        0 for a column that one model alone has constant; columns constant in both are left out.
    """
    # NaN ranks last: a score that is no number separates nothing.
    first, second = np.split(np.nan_to_num(parts, nan=-np.inf, posinf=np.inf, neginf=-np.inf), 2, axis=1)
    found = [
        _correlation(_mid_ranks(a, draws), _mid_ranks(b, draws), draws) for a, b in zip(first.T, second.T, strict=True)
    ]
    told = np.array(found)
    count = np.isfinite(told).sum(0)
    return np.asarray(np.where(count > 0, np.nansum(told, 0) / np.maximum(count, 1), np.nan))


def area_under_curve(parts: Floats, draws: Floats) -> Floats:
    """Return the chance that a positive scores above a negative, ties counting half.

    Parameters
    ----------
    parts : (samples, 2) float64
        Score, and 1 for a positive or 0.
    draws : (draws, samples) float64
        How often each sample is drawn.
    """
    scores, positive = np.nan_to_num(parts[:, 0], nan=-np.inf, posinf=np.inf, neginf=-np.inf), parts[:, 1]
    up, _ = _tied(scores, draws * positive)
    down, _ = _tied(scores, draws * (1 - positive))
    # Negatives below each score; those of the same score count half (Mann and Whitney).
    below = down.cumsum(1) - down / 2
    return np.asarray((up * below).sum(1) / (up.sum(1) * down.sum(1)))


def _mid_ranks(scores: Floats, draws: Floats) -> Floats:
    """Return (draws, samples) ranks; samples of one score, and repetitions of one, share their mean rank."""
    weights, group = _tied(scores, draws)
    return np.asarray((weights.cumsum(1) - weights / 2)[:, group])


def _tied(scores: Floats, weights: Floats) -> tuple[Floats, Ints]:
    """Return weights summed over equal scores, (draws, groups) in rising order, and each sample's group."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, scores[order][1:] != scores[order][:-1]])
    group = np.empty(len(scores), dtype=np.int64)
    # Equal scores get one group, whatever order the sort left them in.
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(scores)]))
    return np.asarray(np.add.reduceat(weights[:, order], starts, axis=1)), group


def _correlation(first: Floats, second: Floats, draws: Floats) -> Floats:
    total = draws.sum(1, keepdims=True)
    a, b = (ranks - (draws * ranks).sum(1, keepdims=True) / total for ranks in (first, second))
    product, left, right = ((draws * values).sum(1) for values in (a * b, a * a, b * b))
    size = np.sqrt(left * right)
    # Ranks of a constant differ by rounding alone.
    still = size <= 1e-12 * np.maximum(np.maximum(left, right), 1e-300)
    both = np.maximum(left, right) <= 1e-12 * total[:, 0] ** 3
    with np.errstate(all="ignore"):
        return np.where(both, np.nan, np.where(still, 0.0, product / size))
