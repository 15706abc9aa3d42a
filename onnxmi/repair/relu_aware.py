"""Least squares for what a Relu lets through.

Where the original's argument of a Relu is negative, any negative argument is as good. So the target is a set, and the
regression alternates between the nearest target in the set and the least-squares solution for it; every round lowers
the distance (the reconstruction of nonlinear responses of Zhang et al. 2015, solved by alternating projections). The
Gram matrix stays the same: a round costs one product of the rows with the targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxmi.information import regress_cross
from onnxmi.typing import Bools, Floats

Rows = NDArray[np.float32]

ROUNDS = 8


@dataclass(frozen=True, eq=False)
class RectifiedRows:
    """Rows of one group of one linear operator whose result is rectified.

    Attributes
    ----------
    inputs : (N, S)
        Of the cut model.
    targets : (N, M)
        Results that would give the original's arguments of the Relu.
    threshold : (N, M) or (1, M)
        The result at which the argument is zero.
    upward : (M,) bool
        Whether the argument grows with the result.
    """

    inputs: Rows
    targets: Rows
    threshold: Rows
    upward: Bools

    def nearest(self, results: Rows) -> Rows:
        """Return what has the same rectified value as the targets and lies nearest to the given results."""
        # Where the target is cut off, any result on the closed side gives the same output.
        closed = np.where(self.upward, self.targets <= self.threshold, self.targets >= self.threshold)
        bounded = np.where(self.upward, np.minimum(results, self.threshold), np.maximum(results, self.threshold))
        return np.where(closed, bounded, self.targets)

    def error(self, weights: Floats, bias: Floats) -> float:
        """Mean squared distance of the results from what has the right rectified value, summed over outputs."""
        results = self.predict(weights, bias)
        return float(np.square((results - self.nearest(results)).astype(np.float64)).sum() / max(len(results), 1))

    def predict(self, weights: Floats, bias: Floats) -> Rows:
        """Results (N, M) of weights (S, M) and a bias (M,)."""
        kind = self.inputs.dtype
        return np.asarray(self.inputs @ weights.astype(kind) + bias.astype(kind))


def refine(rows: RectifiedRows, weights: Floats, bias: Floats, ridge: float) -> tuple[Floats, Floats]:
    """Improve a solution for what the Relu lets through.

    Parameters
    ----------
    rows : RectifiedRows
        To fit to.
    weights, bias : (S, M) and (M,)
        Where to start; the ridge shrinks towards these weights.
    ridge : float
        Relative, as in `onnxmi.information.regress_cross`.
    """
    inputs = rows.inputs.astype(np.float64)
    mean = inputs.mean(axis=0)
    # Products of all rows in float32, the solution in float64: rows are many, inputs few.
    centered = (inputs - mean).astype(rows.inputs.dtype)
    # The inputs stay the same, so their covariance is computed once.
    gram = (centered.T @ centered).astype(np.float64) / len(centered)
    prior = weights
    # Each round is the exact least squares for the nearest right results, so the error falls in every round.
    for _ in range(ROUNDS):
        nearest = rows.nearest(rows.predict(weights, bias))
        cross = (centered.T @ nearest).astype(np.float64) / len(centered)
        weights, bias = regress_cross(gram, cross, mean, nearest.mean(axis=0, dtype=np.float64), prior, ridge)
    return weights, bias
