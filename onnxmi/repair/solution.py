"""What a regression settled on for one group of a linear operator, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxmi.graph.linear import Linear
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
        False where the plain cut was better on held-out samples, or the weights could not be replaced.
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
    """New parameters for `onnxmi.transforms.prune_channels.rewrite`, and what was done to each operator."""

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
        ridge=float(np.median([solution.ridge for solution in solved])),
        error_plain=float(np.mean([solution.error_plain for solution in solved])),
        error_repaired=float(np.mean([solution.error_repaired for solution in solved])),
        reason="" if used else "the plain cut is better on held-out samples",
    )
