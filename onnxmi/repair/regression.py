"""The regression of one group of a linear operator: what its inputs have to make up for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxmi.information import RIDGES, Missing, Repair, fit_in_folds, fit_missing
from onnxmi.typing import Floats


@dataclass(frozen=True, eq=False)
class Regression:
    """What some weights miss, on the samples to fit to and on those to judge by.

    Attributes
    ----------
    folds : tuple of Missing
        On the parts of the samples to fit to; several judge each other.
    judged : Missing or None
        On those to judge by, where there are some.
    plain : (S, M) float64
        Weights of the plain cut.
    prior : (S, M) float64
        Weights that a ridge shrinks towards; what is missing is what these miss.
    """

    folds: tuple[Missing, ...]
    judged: Missing | None
    plain: Floats
    prior: Floats

    @cached_property
    def fitted(self) -> Missing:
        """What is missing on all samples to fit to."""
        return Missing.merged(self.folds)

    @property
    def judge(self) -> Missing:
        """What is missing on the samples to judge by; on those to fit to where there are no others."""
        return self.judged or self.fitted

    def solve(self, ridges: Sequence[float] = RIDGES) -> Repair:
        """Repair with the ridge that is best; the bias is what is added to the original's."""
        bias = np.zeros(self.plain.shape[1])
        if len(self.folds) > 1:
            return fit_in_folds(self.folds, self.judged, self.plain, bias, ridges, self.prior)
        return fit_missing(self.fitted, self.judged, self.plain, bias, ridges, self.prior)

    def error(self, weights: Floats, shift: Floats) -> float:
        """Mean squared error on the samples to judge by, summed over the outputs."""
        return self.judge.error(weights - self.prior, shift)
