"""Errors of single columns, and whether one is lost: not by what a single sample happens to hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.evaluation.scale import Scale
from onnxmi.outputs.view import View
from onnxmi.typing import Array, Floats, Ints


@dataclass(frozen=True)
class WorstColumn:
    """The column that is off most.

    Attributes
    ----------
    column : int or None
        Which; None where no column is told apart.
    error : float
        Its error over that of a constant, which is taken on the fit samples or on these, whichever is more.
    elsewhere : float
        The largest error of any column without the sample that it is off most on.
    """

    column: int | None
    error: float
    elsewhere: float


class ColumnErrors:
    """Sums of one view's column errors, batch by batch, and those of the sample that each column is off most on."""

    def __init__(self, view: View, scale: Scale) -> None:
        self._view, self._scale = view, scale
        count = len(scale.shown(view))
        # Error, error of a constant, and rows: of all samples, and of one.
        self._sums, self._largest = np.zeros((3, count)), np.zeros((3, count))

    def add(self, wanted: Floats, own: Floats | None, samples: Ints | None) -> None:
        """Add the rows of a batch.

        Parameters
        ----------
        wanted : (rows, columns) float64
            The original's answers.
        own : (rows, shown) float64 or None
            As `Scale.shown_errors` gives them; None where the other model answers the same.
        samples : (rows,) int64 or None
            Which sample of the batch each row is of; None where that is not known.
        """
        if not self._sums.size or not len(wanted):
            return
        constant = self._scale.constant_errors(self._view, wanted)
        own = np.zeros_like(constant) if own is None else own
        of_rows = np.stack([own, constant, np.ones_like(own)])
        self._sums += of_rows.sum(1)
        # What is not finite is lost whatever single samples hold.
        if samples is None or not np.isfinite(self._sums).all():
            return
        # A product with the samples' indicators: many times as fast as adding row by row.
        of_samples = (np.arange(int(samples.max()) + 1)[:, None] == samples).astype(np.float64) @ of_rows
        worst = of_samples[0].argmax(0)
        found = of_samples[:, worst, np.arange(own.shape[1])]
        self._largest = np.where(found[0] > self._largest[0], found, self._largest)

    def worst(self) -> WorstColumn | None:
        """Return the worst column; None where none is told apart."""
        if not self._sums.size or not self._sums[2].any():
            return None
        columns = self._over_constant(self._sums)
        left = self._sums - self._largest
        # With one sample alone there is no other to ask.
        elsewhere = np.where(left[2] > 0, self._over_constant(np.maximum(left, 0.0)), columns)
        worst = int(columns.argmax())
        shown = self._scale.shown(self._view)
        return WorstColumn(int(shown[worst]), float(columns[worst]), float(elsewhere.max()))

    def _over_constant(self, sums: Floats) -> Array:
        """Divide errors by what a constant is off: a few samples may hold far more of a rare class than is usual."""
        rows = np.maximum(sums[2], 1.0)
        return np.asarray(sums[0] / rows / np.maximum(self._scale.usual(self._view), sums[1] / rows))
