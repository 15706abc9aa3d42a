"""References for the tests of `onnxmi.information`: what its streamed forms must agree with, from the definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from onnxmi.information import RIDGES, Missing, Moments, Repair, fit_missing, regress_cross
from onnxmi.information.cholesky import factor, forward, live

Array = np.ndarray


def gaussian(covariance: Array, a: ArrayLike, b: ArrayLike, noise: float = 0.0) -> float:
    """I(X_a; X_b + N) in nats of a Gaussian X with this covariance, by canonical correlations (Hotelling 1936).

    Constant features add nothing; a direction that both share adds 13.8 nats.
    """
    left, right = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    noisy = covariance[np.ix_(right, right)] + noise * np.eye(right.size)
    whitened = _whiten(covariance[np.ix_(left, left)], covariance[np.ix_(left, right)])
    whitened = _whiten(noisy, whitened.T)
    if whitened.size == 0:
        return 0.0
    correlations = np.linalg.svd(whitened, compute_uv=False)
    return float(-0.5 * np.log1p(-np.minimum(np.square(correlations), 1.0 - 1e-12)).sum())


def _whiten(covariance: Array, cross: Array) -> Array:
    alive = live(np.diagonal(covariance))
    scale = 1.0 / np.sqrt(np.diagonal(covariance)[alive])
    lower, _ = factor(covariance[np.ix_(alive, alive)] * np.outer(scale, scale), 1e-12)
    return forward(lower, cross[alive] * scale[:, None])


def regress(moments: Moments, kept: ArrayLike, weights: Array, bias: Array, *, ridge: float) -> tuple[Array, Array]:
    """Refit ``Y = X W + b`` on the kept features: weights (S, M) and bias (M,) with one ridge."""
    missing = Missing.of_cut(moments, kept, weights)
    change, shift = regress_cross(missing.gram, missing.cross, missing.mean_x, missing.mean_y, None, ridge)
    return weights[np.asarray(kept, dtype=np.int64)] + change, bias + shift


def fit(
    train: Moments,
    test: Moments | None,
    kept: ArrayLike,
    weights: Array,
    bias: Array,
    ridges: Sequence[float] = RIDGES,
) -> Repair:
    """Refit ``Y = X W + b`` on the kept features with the best of some ridges."""
    judged = None if test is None else Missing.of_cut(test, kept, weights)
    return fit_missing(Missing.of_cut(train, kept, weights), judged, weights[np.asarray(kept, int)], bias, ridges)


def output_error(
    moments: Moments, kept: ArrayLike, weights: Array, bias: Array, new_weights: Array, new_bias: Array
) -> float:
    """``E ||Y - Y'||**2`` of ``Y = X W + b`` and ``Y' = X[kept] W' + b'``, exact on the rows of the moments."""
    difference = np.array(weights, dtype=np.float64)
    difference[np.asarray(kept, dtype=np.int64)] -= new_weights
    spread = float((difference * (moments.scatter @ difference)).sum()) / moments.count
    offset = moments.mean @ difference + bias - new_bias
    return max(spread, 0.0) + float(offset @ offset)
