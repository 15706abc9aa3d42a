"""A view as a Gaussian channel: the covariance of its features before and after the noisy targets are seen."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from onnxmi.information.cholesky import DEAD, Sweep, factor, forward, live, root
from onnxmi.information.view import View
from onnxmi.typing import Bools, Floats, Ints

RIDGE = 1e-9
"""Independent noise on every feature, as a share of its variance, which makes the covariance definite.

Raised tenfold until a Cholesky factor exists: moments summed in float32 from fewer rows than features need 1e-7 or so.
"""

_SPENT = 10.0
"""A feature is explained once its conditional variance is below this many ridges; a duplicate ends at two."""

_FLOOR = 1e-3
"""In ridges: what rounding may not push a conditional variance below."""

_FLOORS = (DEAD, 1e-18, 1e-12)
"""Shares of the largest variance below which a feature is dead, tried in turn.

Features of float32 activations that hardly vary can hold nothing but rounding: then their correlations are none.
"""


class _Remembered:
    """A covariance as a key: equal where all its numbers are. It lets go of them once they are used."""

    def __init__(self, covariance: Floats) -> None:
        self.covariance: Floats | None = covariance
        self._digest = blake2b(np.ascontiguousarray(covariance).data).digest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Remembered) and self._digest == other._digest


@lru_cache(maxsize=4096)  # every model that a search tries asks for the same: the factorizations are most of its choice
def _floor_and_ridge(key: _Remembered) -> tuple[float, float]:
    """Return the floor of live features of a covariance, and the ridge that makes their correlations definite.

    Raises ValueError if no choice of live features makes them a covariance.
    """
    covariance, key.covariance = key.covariance, None
    assert covariance is not None  # a key is used once
    # A lower floor keeps more features, so it comes first; a higher one follows where correlations are impossible.
    for floor in _FLOORS[:-1]:
        with suppress(ValueError):
            return floor, factor(_scaled(covariance, floor)[2], RIDGE)[1]
    return _FLOORS[-1], factor(_scaled(covariance, _FLOORS[-1])[2], RIDGE)[1]


def _correlations(covariance: Floats) -> tuple[Ints, Floats, Floats, float]:
    """Live features (K,), their deviations (K,), their correlations (K, K) and the ridge that makes these definite.

    Raises ValueError if no choice of live features makes them a covariance.
    """
    floor, ridge = _floor_and_ridge(_Remembered(covariance))
    return *_scaled(covariance, floor), ridge


def _scaled(covariance: Floats, floor: float) -> tuple[Ints, Floats, Floats]:
    """Features above a floor, their deviations and their correlations."""
    alive = np.flatnonzero(live(np.diagonal(covariance), floor))
    deviation = np.sqrt(np.diagonal(covariance)[alive])
    # Information does not depend on units, and on unit variances one ridge fits all features.
    return alive, deviation, covariance[np.ix_(alive, alive)] / np.outer(deviation, deviation)


class Channel:
    """Gains in nats of the units of one view, given the units so far: ``1/2 (logdet A_bb|S - logdet B_bb|S)``.

    A is the covariance of X, scaled to unit variances (which changes no information), B that of X given ``Y + N``. Both
    are first conditioned on the features of other layers. Constant features are left out: they gain nothing.
    """

    def __init__(self, view: View, n_units: int, noise: float) -> None:
        """Condition on the other layers. Raises ValueError if a unit is out of range or the covariance not one."""
        if view.units.size and not -1 <= view.units.min() <= view.units.max() < n_units:
            raise ValueError(f"units of a view must lie in -1 .. {n_units - 1}")
        alive, deviation, prior, self._ridge = _correlations(view.covariance)
        self._weight = view.weight
        # Added before the targets are seen: it is in both covariances, and so does not count as information.
        prior[np.diag_indices_from(prior)] += self._ridge
        after = posterior(prior, view.weights[alive] * deviation[:, None], noise)
        # A unit of several features is one block, so that its features are counted jointly and not added up.
        slots = slots_of(view.units[alive], n_units)
        # Features of other layers stay whatever is cut here: only what is new beside them counts.
        fixed = view.units[alive] < 0
        self._real = slots >= 0
        self._prior = self._sweep(_given(prior, fixed), slots)
        self._after = self._sweep(_given(after, fixed), slots)

    def gains(self, candidates: Bools) -> Floats:
        """(n_units,) weighted nats that each candidate adds; 0 for what is explained already and for non-candidates."""
        # Below some ridges a conditional variance is the ridge itself, and the ratio of two of them says nothing.
        spent = self._prior.variances() <= _SPENT * self._ridge
        where = np.flatnonzero(candidates & (self._real & ~spent).any(axis=1))
        gains = np.zeros(candidates.size)
        # Entropy of a Gaussian is half the log-determinant; the constants of both terms cancel.
        nats = 0.5 * (self._prior.log_volumes(where) - self._after.log_volumes(where))
        # Information is not negative; rounding of two nearly equal determinants may be.
        gains[where] = self._weight * np.maximum(nats, 0.0)
        return gains

    def condition(self, unit: int) -> None:
        """Make ``unit`` one of the units so far."""
        if self._real[unit].any():
            self._prior.condition(unit)
            self._after.condition(unit)

    def _sweep(self, matrix: Floats, slots: Ints) -> Sweep:
        return Sweep(_padded(matrix, slots), slots.shape[1], _FLOOR * self._ridge)


def posterior(prior: Floats, weights: Floats, noise: float) -> Floats:
    """Cov(X | Y + N) for ``Y = X W``: ``A - A W (W' A W + D)^-1 W' A`` (Gaussian conditioning).

    Parameters
    ----------
    prior : (K, K) positive definite covariance A of X.
    weights : (K, M) W.
    noise : above 0; D is ``noise * mean(Var(Y))`` on the diagonal.

    Returns
    -------
    (K, K). With fewer targets than features the M x M system is solved as it stands, otherwise the equal
    ``L (I + L' W D^-1 W' L)^-1 L'`` with ``A = L L'`` (Woodbury), which is K x K.
    """
    product = prior @ weights
    variance = (weights * product).sum(axis=0)
    if not variance.any():
        return prior.copy()
    # Noise relative to the targets makes the gain finite, and the same whatever the scale of the weights.
    level = np.sqrt(noise * float(variance.mean()))
    if weights.shape[1] <= weights.shape[0]:
        # Divided by the noise first, the system is I plus something positive: well conditioned from below.
        inner = (weights / level).T @ (product / level)
        seen = forward(_root(inner), (product / level).T)
        return np.asarray(prior - seen.T @ seen)
    # More targets than features: factors on both sides keep the result positive definite, unlike a difference.
    lower = root(prior)
    half = lower.T @ (weights / level)
    hidden = forward(_root(half @ half.T), lower.T)
    return np.asarray(hidden.T @ hidden)


def slots_of(units: Ints, n_units: int) -> Ints:
    """Where each unit's features are, among the features with ``units >= 0`` in their order.

    Returns
    -------
    (n_units, size) positions, -1 where a unit has fewer than ``size`` features, the most of any unit and at least 1.
    """
    owned = units[units >= 0]
    counts = np.bincount(owned, minlength=n_units)
    # Rank of each feature within its unit, without a loop over units.
    order = np.argsort(owned, kind="stable")
    rank = np.arange(owned.size) - np.repeat(np.cumsum(counts) - counts, counts)
    slots = np.full((n_units, max(1, int(counts.max(initial=0)))), -1, dtype=np.int64)
    slots[owned[order], rank] = order
    return slots


def _root(inner: Floats) -> Floats:
    """Lower Cholesky factor of ``I + inner`` (M, M), symmetrised."""
    # Matrix products round the two triangles differently.
    system = 0.5 * (inner + inner.T)
    system[np.diag_indices_from(system)] += 1.0
    return root(system)


def _given(matrix: Floats, fixed: Bools) -> Floats:
    """Covariance of the other features given the ``fixed`` ones: their Schur complement."""
    if not fixed.any():
        return matrix
    # Features of other layers may duplicate each other, so this block may need a jitter of its own.
    lower, _ = factor(matrix[np.ix_(fixed, fixed)], _FLOOR * RIDGE)
    seen = forward(lower, matrix[np.ix_(fixed, ~fixed)])
    return np.asarray(matrix[np.ix_(~fixed, ~fixed)] - seen.T @ seen)


def _padded(matrix: Floats, slots: Ints) -> Floats:
    """``matrix`` reordered unit by unit, each padded to equal size by features of unit variance and no covariance."""
    flat = slots.reshape(-1)
    if np.array_equal(flat, np.arange(matrix.shape[0])):
        return matrix
    # Independent features of unit variance before and after add the same log-determinant to both: a gain of 0.
    padding = flat < 0
    if not matrix.size:
        return np.eye(flat.size)
    ordered = matrix[np.ix_(flat, flat)]
    ordered[padding] = 0.0
    ordered[:, padding] = 0.0
    ordered[padding, padding] = 1.0
    return ordered
