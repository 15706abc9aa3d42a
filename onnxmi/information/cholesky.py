"""Positive definite matrices with numpy alone: live variances, jittered factors, triangular solves, conditioning.

numpy has no triangular solver, so `forward` and `backward` recurse on halves: all but the leaves is matrix product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
        # numpy has no triangular solve; at this size an inverse is as exact, and its product is fast.
        solved[:] = np.linalg.inv(lower) @ solved
        return
    # Halving puts nearly all work into matrix products, which BLAS does at full speed.
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


_PENDING = 64
"""Times the features of a unit: factor rows collected before they are subtracted from the whole matrix in one product.

Below it each step costs O(K * pending) and touches no K x K matrix. Above it a step would reread ever more rows; one
product of 64 rows costs less than that (measured: the full order of 1,536 units takes a third of the time). A step of a
unit with many features is a product itself, for which rereading rows costs little.
"""
_PENDING_ENTRIES = 2**23  # of these rows, at most, where 64 rows are fewer


class Sweep:
    """Conditional diagonal blocks of a covariance as units are conditioned on (block Cholesky, Schur complements).

    Features lie unit by unit, ``size`` each. `blocks` (n, size, size) is up to date after every step; the rest of the
    `matrix` lags behind by the pending factor rows.
    """

    def __init__(self, matrix: Floats, size: int, floor: float) -> None:
        """``matrix`` (n * size, n * size) is taken over and overwritten; no pivot is taken below ``floor``."""
        self.matrix = matrix
        self._size = size
        self._floor = floor
        features = matrix.shape[0]
        most = max(_PENDING, size, min(_PENDING * size, _PENDING_ENTRIES // max(features, 1)))
        self._rows: Floats = np.empty((min(most, max(features, size)), features))
        self._filled = 0
        units = matrix.shape[0] // size
        each = np.arange(units)
        self.blocks: Floats = matrix.reshape(units, size, units, size)[each, :, each, :].copy()

    def condition(self, unit: int) -> None:
        """Condition on the features of ``unit``. Its own block is meaningless afterwards."""
        if self._filled + self._size > self._rows.shape[0]:
            self._flush()
        own = slice(unit * self._size, (unit + 1) * self._size)
        pending = self._rows[: self._filled]
        # The rows as they are by now: `matrix` lags behind by the pending factor rows.
        rows = self._whiten(self.matrix[own] - pending[:, own].T @ pending, own)
        self._rows[self._filled : self._filled + self._size] = rows
        self._filled += self._size
        self._reduce(rows)

    def variances(self) -> Floats:
        """(n, size) conditional variance of each feature, given the units so far."""
        return np.asarray(np.diagonal(self.blocks, axis1=1, axis2=2))

    def log_volumes(self, where: NDArray[np.intp]) -> Floats:
        """Log-determinant of the conditional blocks of the units ``where``."""
        if self._size == 1:
            return np.asarray(np.log(np.maximum(self.blocks[where, 0, 0], self._floor)))
        return log_determinants(self.blocks[where], self._floor)

    def _whiten(self, rows: Floats, own: slice) -> Floats:
        if self._size == 1:
            return np.asarray(rows / np.sqrt(max(float(rows[0, own][0]), self._floor)))
        # The two triangles differ by rounding, and a factor reads only one.
        block = 0.5 * (rows[:, own] + rows[:, own].T)
        try:
            lower = root(block)
        except np.linalg.LinAlgError:
            # A unit that is nearly explained may have lost its definiteness to rounding.
            lower, _ = factor(block, self._floor)
        return forward(lower, rows)

    def _reduce(self, rows: Floats) -> None:
        """Take the part explained by the newest factor rows (size, n * size) out of the diagonal blocks."""
        if self._size == 1:
            self.blocks[:, 0, 0] -= np.square(rows[0])
            return
        by_unit = rows.reshape(self._size, -1, self._size).transpose(1, 0, 2)
        self.blocks -= by_unit.transpose(0, 2, 1) @ by_unit

    def _flush(self) -> None:
        pending = self._rows[: self._filled]
        self.matrix -= pending.T @ pending
        self._filled = 0


def log_determinants(blocks: Floats, floor: float) -> Floats:
    """Of each block (n, p, p), by Cholesky; by eigenvalues raised to ``floor`` if rounding made one indefinite."""
    try:
        factors = np.linalg.cholesky(blocks)
    except np.linalg.LinAlgError:
        return np.asarray(np.log(np.maximum(np.linalg.eigvalsh(blocks), floor)).sum(axis=-1))
    return np.asarray(2.0 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=-1))
