"""Repair by least squares: refit a linear consumer on the features that survive, from moments alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxmi.information.cholesky import backward, forward, root, shifted
from onnxmi.information.moments import NotFiniteError
from onnxmi.information.residual import Missing
from onnxmi.typing import Floats

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, np.inf)
"""Relative ridges tried by `fit_missing`; infinity is the unrepaired cut with its mean put right."""

NARROW = 64  # features up to which one eigendecomposition for all ridges takes less time than a factor for each


@dataclass(frozen=True, eq=False)
class Repair:
    """What `fit_missing` settled on.

    Attributes
    ----------
    weights : (S, M), bias : (M,) of the consumer after the cut: repaired, or of the unrepaired cut if not ``used``.
    ridge : relative ridge of the best candidate.
    error_plain, error_repaired : ``E ||Y - Y'||**2`` of the unrepaired cut and of the best candidate, on held-out rows.
    used : whether the best candidate beat the unrepaired cut.
    """

    weights: Floats
    bias: Floats
    ridge: float
    error_plain: float
    error_repaired: float
    used: bool


def regress_cross(
    gram: Floats, cross: Floats, mean_x: Floats, mean_y: Floats, prior: Floats | None, ridge: float
) -> tuple[Floats, Floats]:
    """Ridge regression of targets y on inputs x, from their covariances, shrunk towards given weights.

    Minimizes ``E ||y - x A - b||**2 + r ||A - prior||**2`` with ``r = ridge * mean(diag(gram))`` (Hoerl and Kennard
    1970, with a prior mean): ``A = prior + (gram + r I)^-1 (cross - gram prior)`` and ``b = mean_y - mean_x A``.
    Inputs and targets may come from different models run on the same samples.

    Parameters
    ----------
    gram : (S, S) covariance of x.
    cross : (S, M) covariance of x with y.
    mean_x, mean_y : (S,) and (M,).
    prior : (S, M), or None for zeros.
    ridge : 0 or more, relative to the mean variance of x; infinity returns the prior.

    Returns
    -------
    Weights (S, M) and bias (M,). By Cholesky; where that fails (ridge 0 and dependent features, or a covariance that
    rounding left indefinite) by eigenvalues; directions no larger than rounding errors are left at the prior.

    Raises
    ------
    ValueError : a negative ridge, shapes that do not fit, or (NotFiniteError) products that overflowed.
    """
    shapes = (gram.shape, cross.shape, mean_x.shape, mean_y.shape)
    features, targets = cross.shape if prior is None else prior.shape
    if shapes != ((features, features), (features, targets), (features,), (targets,)):
        raise ValueError(
            f"gram, cross, mean_x, mean_y have shapes {shapes}, which do not fit prior {(features, targets)}"
        )
    if not ridge >= 0.0:
        raise ValueError(f"ridge is {ridge}, expected 0 or more")
    _require_finite(gram, cross)
    weights = np.zeros_like(cross) if prior is None else prior
    if features and np.isfinite(ridge):
        # Relative to the mean variance: one grid of ridges then fits all layers.
        shift = ridge * float(np.diagonal(gram).mean())
        weights = _solve(gram, shift, cross) if prior is None else prior + _solve(gram, shift, cross - gram @ prior)
    # The intercept is not penalized: it puts the means right for any weights.
    return weights, np.asarray(mean_y - mean_x @ weights)


def fit_missing(
    fit: Missing,
    held_out: Missing | None,
    plain: Floats,
    bias: Floats,
    ridges: Sequence[float] = RIDGES,
    prior: Floats | None = None,
) -> Repair:
    """Repair with the ridge that is best on rows not fitted to, and only if it beats the unrepaired cut there.

    Parameters
    ----------
    fit : what is missing on the rows to fit to.
    held_out : the same on other rows. None judges on the rows of the fit by generalized cross-validation
        (Craven and Wahba 1979): the error over ``(1 - df / n)**2`` with df the effective number of features.
    plain : (S, M) weights of the unrepaired cut.
    bias : (M,) bias of the unrepaired cut.
    ridges : relative ridges, at least one.
    prior : (S, M) weights that the ridge shrinks towards, and that what is missing is missing of; None for the plain
        cut's.

    Returns
    -------
    Repair. Equal errors prefer the larger ridge; a repair that does not beat the unrepaired cut is not used.

    Raises
    ------
    ValueError : no ridges, or (NotFiniteError) moments that overflowed.

    Notes
    -----
    A ridge costs one Cholesky factor and three products of (S, S) with (S, M). Three to five of eight ridges are tried:
    see `lowest`. Narrow regressions, as those of depthwise convolutions, take one eigendecomposition for all ridges.
    """
    if not ridges:
        raise ValueError("no ridges to try")
    judge = held_out or fit
    # Rows that were not fitted to need no correction.
    inflation = dict.fromkeys(ridges, 1.0) if held_out is not None else _inflation(fit, ridges)
    start = plain if prior is None else prior
    error_plain = judge.error(plain - start, np.zeros_like(bias))
    regress = regression_of(fit)
    tried: dict[float, tuple[float, Floats, Floats]] = {}

    def error_of(ridge: float) -> float:
        if ridge not in tried:
            change, shift = regress(ridge)
            tried[ridge] = _inflated(judge.error(change, shift), inflation[ridge]), change, shift
        return tried[ridge][0]

    ridge = lowest(sorted(ridges, reverse=True), error_of)
    error = error_of(ridge)
    _, change, shift = tried[ridge]
    used = error < error_plain
    new = (start + change, bias + shift) if used else (plain, bias)
    return Repair(*new, ridge, error_plain, error, used)


def lowest(ridges: Sequence[float], error_of: Callable[[float], float]) -> float:
    """Return the ridge of a grid with the lowest error, by a walk from the middle to where it rises to both sides.

    A ridge trades what it leaves out for what it is sure of, so the error falls to one ridge and rises from there.

    Parameters
    ----------
    ridges : the grid, in falling order; of equal errors the larger ridge wins.
    error_of : asked about as few of them as can be.
    """
    place = (len(ridges) - 1) // 2
    while place and error_of(ridges[place - 1]) <= error_of(ridges[place]):
        place -= 1
    while place + 1 < len(ridges) and error_of(ridges[place + 1]) < error_of(ridges[place]):
        place += 1
    return ridges[place]


def regression_of(missing: Missing) -> Callable[[float], tuple[Floats, Floats]]:
    """Return a function that gives the change (S, M) and the shift (M,) for any ridge; see `regress_cross`.

    Raises
    ------
    NotFiniteError : products that overflowed.
    """
    gram, cross, mean_x, mean_y = missing.gram, missing.cross, missing.mean_x, missing.mean_y
    if not 0 < len(gram) <= NARROW:
        return lambda ridge: regress_cross(gram, cross, mean_x, mean_y, None, ridge)
    _require_finite(gram, cross)
    path = _Eigenvalues(gram)
    rotated, scale = path.vectors.T @ cross, float(np.diagonal(gram).mean())

    def regress(ridge: float) -> tuple[Floats, Floats]:
        if not np.isfinite(ridge):
            return np.zeros_like(cross), mean_y.copy()
        change = path.vectors @ (path.inverse(ridge * scale)[:, None] * rotated)
        return change, np.asarray(mean_y - mean_x @ change)

    return regress


def ridge_solver(gram: Floats, ridge: float) -> Callable[[Floats], Floats]:
    """Return a function that gives ``(gram + r I)^-1 right`` for any (S, M), with one factor for all of them.

    Parameters
    ----------
    gram : (S, S) covariance.
    ridge : 0 or more, and finite; ``r = ridge * mean(diag(gram))``.

    Raises
    ------
    NotFiniteError : products that overflowed.
    """
    _require_finite(gram)
    return _solver(gram, ridge * float(np.diagonal(gram).mean()) if gram.size else 0.0)


def _solve(gram: Floats, shift: float, right: Floats) -> Floats:
    return _solver(gram, shift)(right)


def _solver(gram: Floats, shift: float) -> Callable[[Floats], Floats]:
    """Solve with ``gram + shift I``, or with its pseudo-inverse where that is singular."""
    try:
        lower = root(shifted(gram, shift))
    except np.linalg.LinAlgError:
        return partial(_solve_by_eigenvalues, gram, shift)
    # The pivots of a semidefinite matrix are no less than the shift: smaller ones divide by what rounding left.
    if np.square(np.diagonal(lower)).min(initial=np.inf) <= max(0.5 * shift, _negligible(gram)):
        return partial(_solve_by_eigenvalues, gram, shift)
    return lambda right: backward(lower, forward(lower, right))


def _solve_by_eigenvalues(gram: Floats, shift: float, right: Floats) -> Floats:
    path = _Eigenvalues(gram)
    return np.asarray(path.vectors @ (path.inverse(shift)[:, None] * (path.vectors.T @ right)))


class _Eigenvalues:
    """One decomposition of a Gram matrix (S, S) for all ridges."""

    def __init__(self, gram: Floats) -> None:
        self._values, self.vectors = np.linalg.eigh(gram)
        # The most negative eigenvalue shows how large the errors of the others are.
        self._rounding = max(_negligible(gram), -2.0 * float(self._values[0]))

    def inverse(self, shift: float) -> Floats:
        """Invert the shifted eigenvalues (S,); 0 for those that are nothing but rounding errors, shifted or not."""
        known = self._values + shift > self._rounding
        return np.asarray(np.divide(1.0, self._values + shift, out=np.zeros_like(self._values), where=known))


def _require_finite(*products: Floats) -> None:
    if not all(np.isfinite(product).all() for product in products):
        raise NotFiniteError("products of rows are too large for their type")


def _negligible(gram: Floats) -> float:
    """Bound the rounding errors of the eigenvalues of ``gram`` (S, S) from above."""
    return float(gram.shape[0] * np.finfo(np.float64).eps * np.trace(gram))


def _inflation(fit: Missing, ridges: Sequence[float]) -> dict[float, float]:
    """``1 / (1 - df / n)**2`` of each ridge, infinite where the fit has no degrees of freedom left."""
    values = np.maximum(np.linalg.eigvalsh(fit.gram), 0.0) if fit.mean_x.size else np.zeros(0)
    # The ridge is relative to the mean variance, which is the mean eigenvalue.
    mean = float(values.mean()) if values.size else 0.0
    # The intercept takes one more degree of freedom.
    left = {ridge: 1.0 - (1.0 + _freedom(values, ridge * mean if mean else 0.0)) / fit.count for ridge in ridges}
    return {ridge: 1.0 / share**2 if share > 0.0 else np.inf for ridge, share in left.items()}


def _inflated(error: float, factor: float) -> float:
    """Their product, infinite if the factor is: an error of 0 where no degrees of freedom are left says nothing."""
    return error * factor if np.isfinite(factor) else np.inf


def _freedom(values: Floats, shift: float) -> float:
    """Effective number of features of a ridge regression, from the eigenvalues (S,) of its Gram matrix."""
    # Each eigenvector counts by how far the ridge lets it through.
    return float((values / (values + shift)).sum()) if shift else float(np.count_nonzero(values))
