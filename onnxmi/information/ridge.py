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
    if not (np.isfinite(gram).all() and np.isfinite(cross).all()):
        raise NotFiniteError("products of rows are too large for their type")
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
    A ridge costs one Cholesky factor and three products of (S, S) with (S, M).
    """
    if not ridges:
        raise ValueError("no ridges to try")
    judge = held_out or fit
    # Rows that were not fitted to need no correction.
    inflation = dict.fromkeys(ridges, 1.0) if held_out is not None else _inflation(fit, ridges)
    start = plain if prior is None else prior
    error_plain = judge.error(plain - start, np.zeros_like(bias))
    best: tuple[float, float, Floats, Floats] | None = None
    # From the largest on, and `<` below: of equal errors the larger ridge wins.
    for ridge in sorted(ridges, reverse=True):
        change, shift = regress_cross(fit.gram, fit.cross, fit.mean_x, fit.mean_y, None, ridge)
        error = _inflated(judge.error(change, shift), inflation[ridge])
        if best is None or error < best[0]:
            best = (error, ridge, change, shift)
    assert best is not None
    error, ridge, change, shift = best
    used = error < error_plain
    new = (start + change, bias + shift) if used else (plain, bias)
    return Repair(*new, ridge, error_plain, error, used)


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
    if not np.isfinite(gram).all():
        raise NotFiniteError("products of rows are too large for their type")
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
    values, vectors = np.linalg.eigh(gram)
    # The most negative eigenvalue shows how large the errors of the others are.
    known = values > max(_negligible(gram), -2.0 * float(values[0]))
    inverse = np.divide(1.0, values + shift, out=np.zeros_like(values), where=known)
    return np.asarray(vectors @ (inverse[:, None] * (vectors.T @ right)))


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
