"""Rounding of a weight matrix in the metric of its inputs' moments: errors of one weight are made up for by others.

Rounding each weight to its nearest step leaves errors ``E`` (K, M). What counts is the error of the products,
``trace(E' H E)`` with the second moments ``H`` of the inputs. With ``H = L L'`` it is the sum of squares of ``L' E``,
whose row k has the errors of weights k and later alone. So the last weight of a column is rounded first, and each one
before it is moved by what the later ones left before it is rounded. That is Babai's nearest plane; GPTQ computes the
same from the inverse of H.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.information.cholesky import root, shifted
from onnxmi.typing import Bools, Floats

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Of the largest weight, how much the widest step reaches: what is larger is clipped, and the rest is rounded finer."""

DAMPING = 0.01  # of the mean second moment: moments of few rows are not trusted in directions that hardly vary
_LEAST = 1e-30  # second moment, where an input is always zero
_BLOCK = 64  # weights that are rounded one by one; what they leave the others is one product of matrices


@dataclass(frozen=True)
class Grid:
    """The whole numbers that weights are stored as, and which of them share a step.

    Attributes
    ----------
    lowest, highest : int
        Least and greatest number; the largest weight of those that share a step, whatever its sign, becomes `lowest`.
    block : int or None
        Weights of a column that share a step; None for all of it.
    """

    lowest: int
    highest: int
    block: int | None = None

    def nearest(self, weights: Floats, steps: Floats) -> Floats:
        """Return the numbers nearest to weights, as float64."""
        return np.clip(np.rint(weights / steps), self.lowest, self.highest)

    def steps(self, weights: Floats, second: Floats) -> tuple[Floats, Bools]:
        """Choose the width of each weight's step by the error of the products if weights were rounded alone.

        Parameters
        ----------
        weights : (K, M) float64
            The weights.
        second : (K, K) float64
            Second moments of the inputs.

        Returns
        -------
        (K, M) float64 and (K, M) bool: the steps, which may be negative, and the weights that say how wide they are.
        """
        largest, anchors = self._largest(weights)
        whole = np.where(largest == 0, 1.0, largest / self.lowest)
        importance = np.diag(second)[:, None]
        best, least = whole, self._summed(importance * np.square(weights - self.nearest(weights, whole) * whole))
        for shrink in SHRINKS[1:]:
            steps = whole * shrink
            error = self._summed(importance * np.square(weights - self.nearest(weights, steps) * steps))
            best, least = np.where(error < least, steps, best), np.minimum(error, least)
        return best, anchors

    def _largest(self, weights: Floats) -> tuple[Floats, Bools]:
        """Return for each weight the largest of those that share its step, and which those are; the first of equals."""
        blocks = self._blocks(weights)
        place = np.abs(blocks).argmax(axis=1)[:, None]
        largest = np.broadcast_to(np.take_along_axis(blocks, place, axis=1), blocks.shape)
        anchors = np.zeros(blocks.shape)
        np.put_along_axis(anchors, place, 1.0, axis=1)
        return self._column(largest, len(weights)), self._column(anchors, len(weights)).astype(np.bool_)

    def _summed(self, errors: Floats) -> Floats:
        """Return for each weight the sum over those that share its step."""
        blocks = self._blocks(errors)
        return self._column(np.broadcast_to(blocks.sum(axis=1, keepdims=True), blocks.shape), len(errors))

    def _blocks(self, values: Floats) -> Floats:
        """Return (K, M) as (blocks, weights of a block, M), with zeros at the end."""
        rows, columns = values.shape
        block = self.block or max(rows, 1)
        return np.pad(values, ((0, -rows % block), (0, 0))).reshape(-1, block, columns)

    def _column(self, blocks: Floats, rows: int) -> Floats:
        return blocks.reshape(-1, blocks.shape[-1])[:rows]


def round_in_metric(weights: Floats, second: Floats, grid: Grid) -> Floats:
    """Round weights to a grid so that the products change least.

    Parameters
    ----------
    weights : (K, M) float64
        What the products should be of.
    second : (K, K) float64
        Second moments of the inputs: the mean over rows x of the products ``x[i] * x[j]``.
    grid : Grid
        What weights may become. The largest of those that share a step keep their place in it, so that the grid of
        the result is the same.

    Returns
    -------
    (K, M) float64.
    """
    steps, anchors = grid.steps(weights, second)
    # Inputs that matter most are rounded first, while there is still much that can make up for it.
    order = np.argsort(np.diag(second), kind="stable")
    lower = root(shifted(second[np.ix_(order, order)], DAMPING * max(float(np.diag(second).mean()), _LEAST)))
    goals, widths, fixed = weights[order], steps[order], anchors[order]
    errors, rounded = np.zeros_like(goals), np.empty_like(goals)
    for end in range(len(order), 0, -_BLOCK):
        start = max(end - _BLOCK, 0)
        left = lower[end:, start:end].T @ errors[end:]
        for row in reversed(range(start, end)):
            moved = left[row - start] + lower[row + 1 : end, row] @ errors[row + 1 : end]
            goal = goals[row] + np.where(fixed[row], 0.0, moved / lower[row, row])
            value = grid.nearest(goal, widths[row]) * widths[row]
            rounded[order[row]] = value
            errors[row] = goals[row] - value
    return rounded
