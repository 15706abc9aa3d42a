"""Positive definite matrices with numpy alone: live variances, jittered factors, triangular solves.

numpy has no triangular solver, so `forward` and `backward` recurse on halves: all but the leaves is matrix product.
"""

from __future__ import annotations

import numpy as np

from onnxmi.typing import Floats

DEAD = 1e-24
"""A feature is dead when its variance is at most this share of the largest one (1e-12 in standard deviations).

float64 moments of a constant feature are not exactly zero: they hold the square of its mean's rounding error.
"""

_LEAF = 64


def live(variances: Floats, share: float = DEAD) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which features vary at all.

    Parameters
    ----------
    variances : (K,)
    share : of the largest variance, at most which a feature counts as constant.

    Returns
    -------
    (K,) bool, False for a constant feature.
    """
    largest = float(variances.max(initial=0.0))
    return np.asarray(variances > share * largest, dtype=np.bool_)


def factor(matrix: Floats, ridge: float, largest: float = 1e-2) -> tuple[Floats, float]:
    """Lower Cholesky factor of ``matrix + jitter * I`` with the first jitter of ``ridge * 10**i`` that succeeds.

    Parameters
    ----------
    matrix : (K, K) symmetric, of unit scale (a correlation matrix), since the jitter is absolute.
    ridge : the first jitter, above 0.
    largest : the last jitter tried.

    Returns
    -------
    (K, K) lower factor and the jitter used. Moments summed in float32 are indefinite by about 1e-7, hence the steps.

    Raises
    ------
    ValueError : no jitter up to ``largest`` makes the matrix positive definite: it is not a covariance.
    """
    jitter = ridge
    while jitter <= largest:
        try:
            return root(shifted(matrix, jitter)), jitter
        except np.linalg.LinAlgError:
            jitter *= 10.0
    raise ValueError(f"not a covariance: adding {largest:g} to the unit diagonal leaves it indefinite")


def root(matrix: Floats) -> Floats:
    """Lower Cholesky factor of ``matrix`` (K, K). Raises numpy's LinAlgError if it is not positive definite."""
    return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)


def shifted(matrix: Floats, amount: float) -> Floats:
    """Return a copy of ``matrix`` (K, K) with ``amount`` added to its diagonal."""
    copy = np.array(matrix, dtype=np.float64)
    copy[np.diag_indices_from(copy)] += amount
    return copy


def forward(lower: Floats, right: Floats) -> Floats:
    """Solve ``lower @ x = right``; lower (K, K) lower triangular, right (K, M). Returns (K, M)."""
    solved = np.array(right, dtype=np.float64)
    _forward(lower, solved)
    return solved


def backward(lower: Floats, right: Floats) -> Floats:
    """Solve ``lower.T @ x = right``; lower (K, K) lower triangular, right (K, M). Returns (K, M)."""
    solved = np.array(right, dtype=np.float64)
    _backward(lower, solved)
    return solved


def _forward(lower: Floats, solved: Floats) -> None:
    """Solve in place."""
    size = lower.shape[0]
    if size <= _LEAF:
        solved[:] = np.linalg.inv(lower) @ solved
        return
    half = size // 2
    _forward(lower[:half, :half], solved[:half])
    solved[half:] -= lower[half:, :half] @ solved[:half]
    _forward(lower[half:, half:], solved[half:])


def _backward(lower: Floats, solved: Floats) -> None:
    """Solve in place."""
    size = lower.shape[0]
    if size <= _LEAF:
        solved[:] = np.linalg.inv(lower).T @ solved
        return
    half = size // 2
    _backward(lower[half:, half:], solved[half:])
    solved[:half] -= lower[half:, :half].T @ solved[half:]
    _backward(lower[:half, :half], solved[:half])
