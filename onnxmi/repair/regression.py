"""The regression of one group of a linear operator: what its inputs have to make up for, and what it settled on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxmi.graph.linear import Linear
from onnxmi.information import RIDGES, Missing, Repair, fit_in_folds, fit_missing
from onnxmi.transforms.prune_channels import Replacement, VectorReplacement
from onnxmi.typing import Floats


@dataclass(frozen=True)
class RepairNote:
    """What repair did to one linear operator.

    Attributes
    ----------
    operator : str
        Its name.
    used : bool
        False where the unrepaired cut was better on held-out samples, or the weights could not be replaced.
    ridge : float
        Relative ridge, the median over groups.
    error_plain, error_repaired : float
        Mean squared error of its outputs on held-out samples, relative to their variance.
    reason : str
        Why the repair was not used.
    """

    operator: str
    used: bool
    ridge: float = 0.0
    error_plain: float = 0.0
    error_repaired: float = 0.0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Repaired:
    """New parameters for `onnxmi.transforms.prune_channels.prune_channels`, and what was done to each operator."""

    replacements: tuple[Replacement | VectorReplacement, ...] = ()
    notes: tuple[RepairNote, ...] = ()


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights (S, M) and the change of the bias (M,); errors relative to the variance of the targets."""

    weights: Floats
    shift: Floats
    ridge: float
    error_plain: float
    error_repaired: float
    used: bool


def note_of(linear: Linear, solved: Sequence[Solution]) -> RepairNote:
    """Sum up the solutions of an operator's groups."""
    used = any(solution.used for solution in solved)
    return RepairNote(
        operator=linear.label,
        used=used,
        # The median, as ridges are powers of ten and infinity.
        ridge=float(np.median([solution.ridge for solution in solved])),
        error_plain=float(np.mean([solution.error_plain for solution in solved])),
        error_repaired=float(np.mean([solution.error_repaired for solution in solved])),
        reason="" if used else "the unrepaired cut is better on validation samples",
    )


@dataclass(frozen=True, eq=False)
class Regression:
    """What some weights miss, on the fit samples and on the validation samples.

    Attributes
    ----------
    folds : tuple of Missing
        On the folds of the fit samples; where there are several, each validates the others.
    validation : Missing or None
        On the validation samples, where there are some.
    plain : (S, M) float64
        Weights of the unrepaired cut.
    prior : (S, M) float64
        Weights that a ridge shrinks towards; what is missing is what these miss.
    """

    folds: tuple[Missing, ...]
    validation: Missing | None
    plain: Floats
    prior: Floats

    @cached_property
    def fit(self) -> Missing:
        """What is missing on all fit samples."""
        return Missing.merged(self.folds)

    @property
    def decisive(self) -> Missing:
        """What is missing on the validation samples; on the fit samples where there are no others."""
        return self.validation or self.fit

    def solve(self, ridges: Sequence[float] = RIDGES) -> Repair:
        """Repair with the ridge that is best; the bias is what is added to the original's."""
        bias = np.zeros(self.plain.shape[1])
        # Several folds exist only where the validation samples are too few to choose a ridge alone.
        if len(self.folds) > 1:
            return fit_in_folds(self.folds, self.validation, self.plain, bias, ridges, self.prior)
        return fit_missing(self.fit, self.validation, self.plain, bias, ridges, self.prior)

    def error(self, weights: Floats, shift: Floats) -> float:
        """Mean squared error on the validation samples, summed over the outputs."""
        # What is missing is missing of the prior, so only the difference from it counts.
        return self.decisive.error(weights - self.prior, shift)
