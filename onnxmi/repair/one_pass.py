"""One-pass repair: refit every linear operator that lost inputs on the original model's surviving activations."""

from __future__ import annotations

from collections.abc import Sequence

from onnxmi.errors import stage
from onnxmi.execution.steps import counted
from onnxmi.graph.linear import Linear
from onnxmi.information import RIDGES, Missing
from onnxmi.repair.operator_cut import OperatorCut
from onnxmi.repair.quantized import quantize_solutions
from onnxmi.repair.regression import Regression, Repaired, RepairNote, Solution, note_of
from onnxmi.statistics.statistics import Statistics
from onnxmi.statistics.statistics_file import StatisticsFile
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import Replacement
from onnxmi.typing import Progress, silent

UNSEEN = "no sample reached this operator"


def repair_one_pass(
    cut: Cut, statistics: StatisticsFile, ridges: Sequence[float] = RIDGES, progress: Progress = silent
) -> Repaired:
    """Solve the regression of every operator that lost inputs, from moments that are already at hand.

    Parameters
    ----------
    statistics : StatisticsFile
        The regression is solved on its fit samples, the ridge chosen on the validation samples.
    ridges : sequence of float
        Relative ridges to try.

    Returns
    -------
    Repaired
        With one note for each operator that lost inputs.
    """
    replacements: list[Replacement] = []
    notes: list[RepairNote] = []
    lost = [linear for linear in cut.linears if _lost(linear, cut)]
    for linear in counted(lost, "repair", progress):
        obstacle = linear.obstacle or (None if statistics.fit.saw(linear.key) else UNSEEN)
        if obstacle is not None:
            notes.append(RepairNote(linear.label, used=False, reason=obstacle))
            continue
        with stage("repair", linear.label):
            operator_cut = OperatorCut.of(cut, linear)
            regressions = [_regression(operator_cut, group, statistics) for group in range(len(operator_cut.groups))]
            solved = quantize_solutions(
                operator_cut, [_solve(regression, ridges) for regression in regressions], regressions
            )
        notes.append(note_of(linear, solved))
        if notes[-1].used:
            replacements.append(operator_cut.replacement(solved))
    return Repaired(tuple(replacements), tuple(notes))


def _lost(linear: Linear, cut: Cut) -> bool:
    """Whether an operator lost inputs and is there still, if only as the constant that it gives without any."""
    branches = cut.branches
    return not linear.kept_features(cut.keeping).all() and (branches.remain(linear) or branches.constant(linear))


def _regression(operator_cut: OperatorCut, group: int, statistics: StatisticsFile) -> Regression:
    """What the kept inputs of one group are to make up for."""
    fit, validation = statistics.fit, statistics.validation
    key, number = operator_cut.linear.key, operator_cut.groups[group]
    # What the cut features gave to the kept outputs: the regression has to replace only that.
    lost = (operator_cut.features[group], operator_cut.original_weights(group))

    def missing(statistics: Statistics) -> Missing:
        about_means = Missing.of_cut(statistics.moments[key].group(number), *lost)
        return about_means if operator_cut.linear.holds_bias else about_means.through_origin()

    other = None if validation is None or not validation.saw(key) else missing(validation)
    # The sliced weights are the prior: with an infinite ridge nothing changes.
    sliced = operator_cut.plain(group)
    return Regression((missing(fit),), other, sliced, sliced)


def _solve(regression: Regression, ridges: Sequence[float]) -> Solution:
    """Regress what is missing on the kept inputs of one group, towards the unrepaired cut."""
    result = regression.solve(ridges)
    spread = regression.decisive.total_variance(regression.plain) or 1.0
    errors = result.error_plain / spread, result.error_repaired / spread
    return Solution(result.weights, result.bias, result.ridge, *errors, result.used)
