"""Mutual information in nats: of Gaussian pairs from covariances, of discrete pairs from counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from onnxmi.information.cholesky import live
from onnxmi.typing import Floats

_DETERMINED = 1e-12
"""The least ``1 - rho**2`` believed: information that is infinite in theory is reported as 13.8 nats a direction."""


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


def discrete(joint_counts: ArrayLike, *, correct: bool = False) -> Floats:
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
        # Miller and Madow: each entropy is too small by (occupied cells - 1) / 2n; the three biases add up to this.
        cells = (rows > 0).sum(axis=-1) + (columns > 0).sum(axis=-1) - (table > 0).sum(axis=(-2, -1)) - 1
        entropy = entropy + cells / (2.0 * np.maximum(total, 1.0))
    return np.maximum(entropy, 0.0)


def _inverse_root(variance: Floats) -> Floats:
    """One over the standard deviation (K,), 0 for a constant feature."""
    alive = live(variance)
    return np.where(alive, 1.0 / np.sqrt(np.where(alive, variance, 1.0)), 0.0)


def _nats(correlation: Floats) -> Floats:
    """``-1/2 log(1 - rho**2)`` with rho**2 clipped to 1 - 1e-12."""
    # log1p keeps the small values: most pairs are nearly independent.
    return np.asarray(-0.5 * np.log1p(-np.minimum(np.square(correlation), 1.0 - _DETERMINED)))


def _entropy(counts: Floats, axes: tuple[int, ...]) -> Floats:
    """Plug-in entropy in nats of counts over ``axes``; 0 for a table with no counts."""
    # A table without counts would divide by zero; its shares are all 0 then, and so is its entropy.
    total = np.maximum(counts.sum(axis=axes, keepdims=True), np.finfo(np.float64).tiny)
    share = counts / total
    return np.asarray(-(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=axes))
