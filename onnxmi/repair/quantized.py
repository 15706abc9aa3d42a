"""Solutions for quantized weights: rounded as they will be stored, and used where they beat the unrepaired cut.

The scales stay, so that a bias that is quantized with their product stays right. What rounding moves the mean of the
results by goes into the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxmi.repair.operator_cut import OperatorCut
from onnxmi.repair.regression import Regression, Solution
from onnxmi.typing import Floats


def quantize_solutions(
    operator_cut: OperatorCut, solved: Sequence[Solution], regressions: Sequence[Regression]
) -> list[Solution]:
    """Return the solutions as they will be stored, one for each kept group."""
    if operator_cut.linear.weights.scheme is None:
        return list(solved)
    rounded = operator_cut.rounded(solved)
    return [_quantize_solution(*group) for group in zip(solved, rounded, regressions, strict=True)]


def _quantize_solution(solution: Solution, rounded: Floats, regression: Regression) -> Solution:
    if not solution.used:
        return solution
    sliced = regression.plain
    # Rounding moves the mean of the results; the bias is not quantized as coarsely and takes that up.
    shift = solution.shift + regression.fit.mean_x @ (solution.weights - rounded)
    before, after = regression.error(sliced, np.zeros(len(shift))), regression.error(rounded, shift)
    if after >= before:
        return replace(solution, weights=sliced, shift=np.zeros(len(shift)), used=False)
    # The solution's errors are relative to a variance that is not at hand here, but the ratio is.
    error_repaired = solution.error_plain * after / before
    return replace(solution, weights=rounded, shift=shift, error_repaired=error_repaired)
