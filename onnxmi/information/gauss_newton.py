"""How much the outputs mind errors of a linear operator's results, as a matrix over their directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.typing import Floats, Ints

_NEGLIGIBLE = 1e-6
"""Share of the largest eigenvalue below which a direction is one that the outputs do not mind."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Sum over samples and rows of g g', with g a gradient of the outputs by M results.

    Attributes
    ----------
    count : number of samples.
    total : (groups, M, M), the sum.
    """

    count: int
    total: Floats

    def merge(self, other: Sensitivity) -> Sensitivity:
        """Sum over both sets of samples. Raises ValueError if the shapes differ."""
        if self.total.shape != other.total.shape:
            raise ValueError(f"shapes {self.total.shape} and {other.total.shape} do not fit")
        return Sensitivity(self.count + other.count, self.total + other.total)

    def root(self, group: int, kept: Ints) -> Floats:
        """Factor L (kept, R) of a group's mean matrix over the ``kept`` results: errors e (kept,) cost ``|e L|**2``.

        Directions of less than a millionth of the largest eigenvalue are left out; R is 0 where the outputs mind none.
        """
        # Errors of results that are cut do not exist: the loss is a function of the kept ones alone.
        matrix = self.total[group][np.ix_(kept, kept)] / max(self.count, 1)
        # Symmetric by construction, up to what rounding left: eigh reads one triangle only.
        values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
        # A sum of n outer products has rank n at most; what is beyond it is rounding, of either sign.
        large = values > _NEGLIGIBLE * max(float(values.max(initial=0.0)), 0.0)
        return np.asarray(vectors[:, large] * np.sqrt(values[large]))
