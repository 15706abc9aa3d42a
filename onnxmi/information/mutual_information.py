"""Mutual information in nats: Gaussian from covariances, discrete from counts, Gaussian classes from class moments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike

from onnxmi.information.arrays import Floats
from onnxmi.information.cholesky import factor, forward, live
from onnxmi.information.moments import Moments

JITTER = 1e-12
"""Added to the unit diagonal of a correlation matrix before its Cholesky factor is taken."""

_DETERMINED = 1e-12
"""The least ``1 - rho**2`` believed: information that is infinite in theory is reported as 13.8 nats a direction."""


def gaussian(covariance: Floats, a: ArrayLike, b: ArrayLike, noise: float = 0.0) -> float:
    """I(X_a; X_b + N) in nats if X is Gaussian with this covariance.

    ``-1/2 sum log(1 - rho_i**2)`` over the canonical correlations rho (Hotelling 1936; Cover and Thomas
    2006, section 8.5), which equals ``1/2 (logdet C_aa + logdet C_bb - logdet C_(ab))`` and cannot turn negative. The
    blocks are scaled to correlations and whitened by Cholesky factors with a jitter of 1e-12, raised tenfold while
    they fail.

    Parameters
    ----------
    covariance : (K, K).
    a, b : indices of features; they may overlap, which is finite only with noise.
    noise : variance of N, independent of X and equal on every feature of b, in the covariance's units.

    Returns
    -------
    Nats. Constant features add nothing. Each direction that a and b share exactly adds 13.8 nats, not infinity.
    Plugging in a sample covariance of n rows biases it up by about ``len(a) * len(b) / (2 n)``.

    Raises
    ------
    ValueError : noise is negative, or the covariance is not positive semidefinite.
    """
    if noise < 0.0:
        raise ValueError(f"noise is {noise}, expected a variance of 0 or more")
    left, right = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    noisy = covariance[np.ix_(right, right)] + noise * np.eye(right.size)
    whitened = _whiten(covariance[np.ix_(left, left)], covariance[np.ix_(left, right)])
    whitened = _whiten(noisy, whitened.T)
    if whitened.size == 0:
        return 0.0
    return float(_nats(np.asarray(np.linalg.svd(whitened, compute_uv=False))).sum())


def pairwise_gaussian(covariance: Floats, cross: Floats, variance_y: Floats) -> Floats:
    """I(x_k; y_m) in nats of every pair, ``-1/2 log(1 - rho**2)``, if each pair is Gaussian.

    Parameters
    ----------
    covariance : (K, K) of x, or its diagonal (K,).
    cross : (K, M) covariance of x and y.
    variance_y : (M,).

    Returns
    -------
    (K, M) nats: 0 where either side is constant, at most 13.8. From n rows it is biased up by about ``1 / (2 n)``.

    Raises
    ------
    ValueError : the shapes do not fit.
    """
    variance_x = np.diagonal(covariance) if covariance.ndim == 2 else covariance
    if cross.shape != (variance_x.size, variance_y.size):
        raise ValueError(f"cross has shape {cross.shape}, expected {(variance_x.size, variance_y.size)}")
    correlation = cross * _inverse_root(variance_x)[:, None] * _inverse_root(variance_y)[None, :]
    return _nats(correlation)


def linear_targets(covariance: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Covariance of x with ``y = x @ weights`` (K, M) and the variance of y (M,), from covariance (K, K)."""
    cross = np.asarray(covariance @ weights)
    return cross, np.asarray((weights * cross).sum(axis=0))


def discrete(joint_counts: ArrayLike, correct: bool = False) -> Floats:
    """Mutual information in nats of tables of counts, plug-in or corrected.

    Parameters
    ----------
    joint_counts : (..., A, B) counts, or weights if not corrected. An empty table gives 0.
    correct : subtract Miller and Madow's estimate of the plug-in bias, ``(a b-cells - a-cells - b-cells + 1) / (2 n)``,
        counting cells that are not empty (Miller 1955; Madow likewise; applied to each of the three entropies).

    Returns
    -------
    (...) nats, clipped at 0. Plug-in is biased up by about ``(A - 1) (B - 1) / (2 n)``; the correction leaves O(1/n**2)
    before the clip, which biases up again where the truth is near 0.

    Raises
    ------
    ValueError : fewer than two axes, or a negative count.
    """
    table = np.asarray(joint_counts, dtype=np.float64)
    if table.ndim < 2 or (table < 0).any():
        raise ValueError(f"counts of shape {table.shape} must have two axes or more and none below 0")
    total = table.sum(axis=(-2, -1))
    rows, columns = table.sum(axis=-1), table.sum(axis=-2)
    entropy = _entropy(rows, (-1,)) + _entropy(columns, (-1,)) - _entropy(table, (-2, -1))
    if correct:
        cells = (rows > 0).sum(axis=-1) + (columns > 0).sum(axis=-1) - (table > 0).sum(axis=(-2, -1)) - 1
        entropy = entropy + cells / (2.0 * np.maximum(total, 1.0))
    return np.maximum(entropy, 0.0)


def gaussian_mixture_labels(classes: Sequence[Moments], index: ArrayLike) -> float:
    """Bound I(X_S; label) in nats from above: ``1/2 (logdet total - logdet within)``, at most the label's entropy.

    The target is the one-hot indicator of the label: regressing X on it explains exactly the covariance between the
    classes, so this is the Gaussian I(X_S; one-hot). It bounds the true information from above if each class is
    Gaussian with the same covariance (Fisher's model), since of all densities of a covariance the Gaussian has the
    largest entropy. Without that it is a score, not a bound.

    Parameters
    ----------
    classes : moments of the rows of each class, with no group axes. Classes without rows are ignored.
    index : (S,) features.

    Returns
    -------
    Nats, at least 0, biased up by about ``S (classes - 1) / (2 n)``.

    Raises
    ------
    ValueError : no class has rows, or the shapes differ.
    """
    present = [moments.take(index) for moments in classes if moments.count]
    if not present:
        raise ValueError("no class has rows")
    total = reduce(Moments.merge, present)
    within = np.sum([moments.scatter for moments in present], axis=0) / total.count
    shares = np.array([moments.count for moments in present], dtype=np.float64)
    alive = live(total.variance)
    scale = _inverse_root(total.variance)[alive]
    volumes = [_logdet(matrix[np.ix_(alive, alive)] * np.outer(scale, scale)) for matrix in (total.covariance, within)]
    return float(np.clip(0.5 * (volumes[0] - volumes[1]), 0.0, _entropy(shares, (-1,))))


def label_weights(classes: Sequence[Moments], ridge: float = 1e-3) -> Floats:
    """Weights (K, classes) of the ridge regression of the one-hot label on X: targets for a `View` scored on labels.

    ``ridge`` is relative to each feature's variance; a constant feature gets 0. Raises ValueError if there are no rows.
    """
    total = reduce(Moments.merge, classes)
    share = np.array([moments.count for moments in classes], dtype=np.float64) / max(total.count, 1)
    means = np.stack([moments.mean if moments.count else total.mean for moments in classes], axis=-1)
    scale = _inverse_root(total.variance)
    correlation = total.covariance * np.outer(scale, scale) + ridge * np.eye(total.features)
    cross = (means - total.mean[:, None]) * share * scale[:, None]
    return np.asarray(np.linalg.solve(correlation, cross) * scale[:, None])


def _whiten(covariance: Floats, cross: Floats) -> Floats:
    """``cross`` (S, M) with its S rows made uncorrelated and of unit variance; constant rows are dropped."""
    alive = live(np.diagonal(covariance))
    scale = _inverse_root(np.diagonal(covariance)[alive])
    lower, _ = factor(covariance[np.ix_(alive, alive)] * np.outer(scale, scale), JITTER)
    return forward(lower, cross[alive] * scale[:, None])


def _inverse_root(variance: Floats) -> Floats:
    """One over the standard deviation (K,), 0 for a constant feature."""
    alive = live(variance)
    return np.where(alive, 1.0 / np.sqrt(np.where(alive, variance, 1.0)), 0.0)


def _nats(correlation: Floats) -> Floats:
    """``-1/2 log(1 - rho**2)`` with rho**2 clipped to 1 - 1e-12."""
    return np.asarray(-0.5 * np.log1p(-np.minimum(np.square(correlation), 1.0 - _DETERMINED)))


def _logdet(correlation: Floats) -> float:
    """Log-determinant of a correlation matrix or of a part of one, jittered as `gaussian` says."""
    return 2.0 * float(np.log(np.diagonal(factor(correlation, JITTER)[0])).sum())


def _entropy(counts: Floats, axes: tuple[int, ...]) -> Floats:
    """Plug-in entropy in nats of counts over ``axes``; 0 for a table with no counts."""
    total = np.maximum(counts.sum(axis=axes, keepdims=True), np.finfo(np.float64).tiny)
    share = counts / total
    return np.asarray(-(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=axes))
