"""How well a mean over samples is known: its standard error, from sums alone."""

from __future__ import annotations

from math import sqrt

import numpy as np

from onnxmi.typing import Floats, Ints


class SampleSpread:
    """Sums of samples' values and of their squares, batch by batch; rows of one sample count together."""

    def __init__(self) -> None:
        self._samples, self._rows = 0, 0
        self._sum, self._squares, self._products = 0.0, 0.0, 0.0
        self._row_squares = 0.0

    def add(self, values: Floats, samples: Ints | None) -> None:
        """Add the rows of a batch.

        Parameters
        ----------
        values : (rows,) float64
        samples : (rows,) int64 or None
            Which sample of the batch each row is of; None where the rows are all of one.
        """
        if not len(values):
            return
        numbers = np.zeros(len(values), np.int64) if samples is None else samples
        rows = np.bincount(numbers)
        present = rows > 0
        totals, rows = np.bincount(numbers, weights=values)[present], rows[present].astype(np.float64)
        self._samples += len(rows)
        self._rows += len(values)
        self._sum += float(totals.sum())
        self._squares += float(np.square(totals).sum())
        self._products += float((totals * rows).sum())
        self._row_squares += float(np.square(rows).sum())

    @property
    def standard_error(self) -> float:
        """Of the mean over rows, as samples are drawn; 0 of fewer than two samples.

        A ratio of two sums over samples, so its error is that of the samples' residuals (Cochran 1977, section 2.11).
        """
        if self._samples < 2 or not np.isfinite(self._squares):
            return 0.0
        mean = self._sum / self._rows
        residuals = self._squares - 2 * mean * self._products + mean**2 * self._row_squares
        return sqrt(max(residuals, 0.0) * self._samples / (self._samples - 1)) / self._rows
