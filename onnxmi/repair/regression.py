"""The regression of one group of a linear operator: what its inputs have to make up for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxmi.information import RIDGES, Missing, Repair, fit_missing

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regression:
    """What the plain cut misses, on the samples to fit to and on those to judge by.

    Attributes
    ----------
    fitted : Missing
        On the samples to fit to.
    judged : Missing or None
        On those to judge by, where there are some.
    plain : (S, M) float64
        Weights of the plain cut.
    """

    fitted: Missing
    judged: Missing | None
    plain: Floats

    @property
    def judge(self) -> Missing:
        """What is missing on the samples to judge by; on those to fit to where there are no others."""
        return self.judged or self.fitted

    def solve(self, ridges: Sequence[float] = RIDGES) -> Repair:
        """Repair with the ridge that is best; the bias is what is added to the original's."""
        return fit_missing(self.fitted, self.judged, self.plain, np.zeros(self.plain.shape[1]), ridges)

    def error(self, weights: Floats, shift: Floats) -> float:
        """Mean squared error on the samples to judge by, summed over the outputs."""
        return self.judge.error(weights - self.plain, shift)
