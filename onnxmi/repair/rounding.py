"""Solutions for quantised weights: rounded as they will be stored, and used where they are better than the plain cut.

The scales stay, so that a bias that is quantised with their product stays right. What rounding moves the mean of the
results by goes into the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxmi.information import Moments, output_error
from onnxmi.repair.frame import Frame
from onnxmi.repair.solution import Solution

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regression:
    """What one group's solution was to achieve: ``targets`` of the features from the kept ones.

    Attributes
    ----------
    fitted, judge : Moments
        Of the (K,) features.
    kept : (S,) int64
        Those that stay.
    targets : (K, M) float64
        Weights that give what is wanted.
    base : (S, M) float64
        What the solution's weights are told without.
    """

    fitted: Moments
    judge: Moments
    kept: NDArray[np.int64]
    targets: Floats
    base: Floats

    def error(self, weights: Floats, shift: Floats) -> float:
        """Mean squared error, summed over the outputs."""
        none = np.zeros(len(shift))
        return output_error(self.judge, self.kept, self.targets, none, weights - self.base, shift)


def settle(frame: Frame, solved: Sequence[Solution], regressions: Sequence[Regression]) -> list[Solution]:
    """Return the solutions as they will be stored, one for each kept group."""
    if frame.linear.weights.coding is None:
        return list(solved)
    rounded = frame.rounded(solved)
    return [_settle(frame.plain(k), *found) for k, found in enumerate(zip(solved, rounded, regressions, strict=True))]


def _settle(plain: Floats, solution: Solution, rounded: Floats, regression: Regression) -> Solution:
    if not solution.used:
        return solution
    mean = regression.fitted.mean[regression.kept]
    shift = solution.shift + mean @ (solution.weights - rounded)
    before, after = regression.error(plain, np.zeros(len(shift))), regression.error(rounded, shift)
    if after >= before:
        return replace(solution, weights=plain, shift=np.zeros(len(shift)), used=False)
    told = solution.error_plain * after / before
    return replace(solution, weights=rounded, shift=shift, error_repaired=told)
