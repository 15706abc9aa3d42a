"""Least squares for what an activation lets through.

Errors of an argument count as far as they change the value: none where a Relu stays closed, little where a SiLU or a
Gelu is flat. For arguments a and b the squared error of the values is ``s^2 (a - b)^2`` with s the slope of the secant
between them. So each round asks for results that are nearer to the right ones by the share ``s^2 / L^2``, L the
steepest slope, and solves for these by least squares: while secants stay as they are, no round makes the error larger
(weighted least squares by majorization: Kiers 1997; for a Relu, Zhang et al. 2015 reconstruct responses so). The Gram
matrix and its Cholesky factor stay the same: a round costs two products of the rows. Each round
starts beyond the last solution, in the direction it came from: five such rounds come nearer than eight without.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnxmi.information import ridge_solver
from onnxmi.repair.activation import Activation
from onnxmi.typing import Floats

Rows = NDArray[np.float32]

ROUNDS = 5
MOMENTUM = 0.8  # of a round's step is added to it before the next round
ROWS, ROWS_PER_FEATURE = 4_096, 4  # that a refinement takes: its rounds cost more than the moments of all rows
ALIKE = 1e-4  # difference of arguments below which a secant is rounding


@dataclass(frozen=True, eq=False)
class ActivatedRows:
    """Rows of one group of one linear operator whose result goes through an activation.

    Attributes
    ----------
    inputs : (N, S)
        Of the cut model.
    targets : (N, M)
        Results that would give the original's arguments of the activation.
    scale : (M,)
        What results are multiplied with.
    level : (N, M) or (1, M)
        What is added to them then.
    activation : Activation
        What the sums go through.
    """

    inputs: Rows
    targets: Rows
    scale: Rows
    level: Rows
    activation: Activation

    @cached_property
    def arguments(self) -> Rows:
        """(N, M) the original's arguments."""
        return np.asarray(self.targets * self.scale + self.level)

    @cached_property
    def values(self) -> Rows:
        """(N, M) the original's values."""
        return np.asarray(self.activation.values(self.arguments))

    def nearer(self, results: Rows) -> Rows:
        """Return results nearer to the targets, as far as the values are off."""
        arguments = results * self.scale + self.level
        missing = self.arguments - arguments
        apart = np.abs(missing) > ALIKE
        secants = np.divide(
            self.values - self.activation.values(arguments), missing, out=np.zeros_like(missing), where=apart
        )
        shares = np.minimum(np.square(secants / self.activation.steepest), 1.0)
        return np.asarray(results + shares * (self.targets - results))

    def error(self, weights: Floats, bias: Floats) -> float:
        """Mean squared error of the values, summed over outputs."""
        kind = self.inputs.dtype
        results = self.inputs @ weights.astype(kind) + bias.astype(kind)
        off = self.values - self.activation.values(results * self.scale + self.level)
        return float(np.square(off.astype(np.float64)).sum() / max(len(off), 1))

    def thinned(self) -> ActivatedRows:
        """Return some of the rows, evenly spread, where there are more than a refinement takes."""
        step = -(-len(self.inputs) // rows_refined(self.inputs.shape[1]))
        if step <= 1:
            return self
        level = self.level if len(self.level) == 1 else self.level[::step]
        return ActivatedRows(self.inputs[::step], self.targets[::step], self.scale, level, self.activation)


def rows_refined(features: int) -> int:
    """How many rows a refinement takes, at most."""
    return max(ROWS, ROWS_PER_FEATURE * features)


def refine(rows: ActivatedRows, weights: Floats, bias: Floats, ridge: float) -> tuple[Floats, Floats]:
    """Improve a solution for what the activation lets through.

    Parameters
    ----------
    rows : ActivatedRows
        To fit to.
    weights, bias : (S, M) and (M,)
        Where to start; the ridge shrinks towards these weights.
    ridge : float
        Relative, as in `onnxmi.information.regress_cross`.
    """
    rows = rows.thinned()
    kind = rows.inputs.dtype
    mean = rows.inputs.mean(axis=0, dtype=np.float64)
    # Products of all rows in float32, the solution in float64: rows are many, inputs few.
    centered = np.asarray(rows.inputs - mean.astype(kind))
    gram = (centered.T @ centered).astype(np.float64) / len(centered)
    solve = ridge_solver(gram, ridge)
    prior, explained = weights, gram @ weights
    ahead = weights, bias
    for _ in range(ROUNDS):
        results = np.asarray(centered @ ahead[0].astype(kind) + (ahead[1] + mean @ ahead[0]).astype(kind))
        nearer = rows.nearer(results)
        cross = (centered.T @ nearer).astype(np.float64) / len(centered)
        last_weights, last_bias = weights, bias
        # The exact least squares for these results.
        weights = prior + solve(cross - explained)
        bias = nearer.mean(axis=0, dtype=np.float64) - mean @ weights
        ahead = weights + MOMENTUM * (weights - last_weights), bias + MOMENTUM * (bias - last_bias)
    return weights, bias
