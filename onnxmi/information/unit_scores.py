"""Scores of single units, for comparison with `joint`: each sums over a unit's features and its targets.

All take ``units`` (K,), the unit that owns each feature, -1 for a feature of another layer, which counts for nothing,
and return (n_units,) scores, larger for what should stay.
"""

from __future__ import annotations

import numpy as np

from onnxmi.information.view import Allowance, Selection
from onnxmi.typing import Floats, Ints


def wanda(second_moment_diagonal: Floats, weights: Floats, units: Ints, n_units: int) -> Floats:
    """``sum |w| sqrt(E x**2)``: Wanda (Sun et al. 2024, arXiv:2306.11695), summed over whole units.

    second_moment_diagonal (K,) is E x**2 about zero; weights (K, M).
    """
    return _per_unit(np.sqrt(np.maximum(second_moment_diagonal, 0.0)) * np.abs(weights).sum(axis=1), units, n_units)


def variance(covariance_diagonal: Floats, weights: Floats, units: Ints, n_units: int) -> Floats:
    """``Var(x) ||w||**2``: the fluctuation metric of FLAP (An et al. 2024, arXiv:2312.11983), in squared units of y.

    covariance_diagonal (K,); weights (K, M).
    """
    return _per_unit(np.maximum(covariance_diagonal, 0.0) * np.square(weights).sum(axis=1), units, n_units)


def pairwise(information: Floats, units: Ints, n_units: int) -> Floats:
    """Sum of pairwise mutual information in nats over a unit's features and over targets.

    information (K, M), from `pairwise_gaussian` or `JointHistogram`. A duplicate counts twice: this is the paper's
    abstract read literally, not an estimate of joint information.
    """
    return _per_unit(np.asarray(information.sum(axis=1)), units, n_units)


def top(scores: Floats, keep: int, parts: Ints | None = None, quota: int | None = None) -> Selection:
    """Choose the ``keep`` units (or ``quota`` of every part, see `joint`) of largest score; ties to the lowest index.

    Returns a Selection whose ``gains`` are the scores. Raises ValueError if a score is not a number or the demands
    contradict each other.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    allowance = Allowance(scores.size, keep, parts, quota)
    order: list[int] = []
    # A stable sort of the negated scores keeps the lowest index first among equals.
    for unit in np.argsort(-scores, kind="stable").tolist():
        if allowance.open[unit]:
            allowance.take(unit)
            order.append(unit)
    return Selection.of(order, scores[order].tolist())


def _per_unit(of_feature: Floats, units: Ints, n_units: int) -> Floats:
    # Features of other layers belong to no unit.
    owned = units >= 0
    return np.bincount(units[owned], weights=of_feature[owned], minlength=n_units).astype(np.float64)
