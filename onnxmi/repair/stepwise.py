"""Step-by-step repair: refit each linear operator on what the already repaired model feeds it.

The original and the cut model advance together, operator by operator. At each linear operator the regression's inputs
are the cut model's activations, its targets the original's outputs; so the errors that earlier operators left behind
are corrected by later ones instead of adding up. Where the operator's result is added to a residual stream, the target
also takes in what the stream itself is off by. One step costs the operators since the last one: all steps together are
one forward pass of each model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxmi.axes.keeping import Keeping
from onnxmi.errors import stage
from onnxmi.execution.steps import counted
from onnxmi.graph.dataflow import Flow
from onnxmi.graph.linear import Linear, kept_along_axes, new_bias
from onnxmi.graph.padding_mask import padding_masks
from onnxmi.information import NotFiniteError
from onnxmi.information.paired_moments import PairMoments
from onnxmi.repair.behind_activation import refine
from onnxmi.repair.epilogue import Epilogue, find_epilogue
from onnxmi.repair.loops import steppable_in_loops
from onnxmi.repair.measured import Measured
from onnxmi.repair.normalization import NormalizationParameters, find_normalizations, refit_normalization
from onnxmi.repair.one_pass import UNSEEN
from onnxmi.repair.operator_cut import OperatorCut, remaining_rows
from onnxmi.repair.original import OriginalWalk
from onnxmi.repair.quantized import quantize_solutions
from onnxmi.repair.regression import Regression, Repaired, RepairNote, Solution, note_of
from onnxmi.repair.samples import VALIDATION, RepairSamples
from onnxmi.runtime.routes import Routes
from onnxmi.runtime.stepper import Stepper
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import Replacement, VectorReplacement, prune_channels, slice_array
from onnxmi.typing import Floats, Progress, silent

WIDEST = 12_288  # inputs and outputs of an operator: their moments have the square of it, 1.2 GB, several times over


@dataclass(frozen=True)
class StepOptions:
    """Variants of the step-by-step repair.

    Attributes
    ----------
    feedback : bool
        Let targets take in the residual stream's error.
    everywhere : bool
        Also refit operators that lost no inputs, where what feeds them is off.
    """

    feedback: bool = True
    everywhere: bool = True


def repair_stepwise(
    cut: Cut,
    samples: RepairSamples,
    steps: StepOptions = StepOptions(),
    shared: Repaired | None = None,
    progress: Progress = silent,
) -> Repaired:
    """Repair a cut model operator by operator; see `repair_one_pass` for what is returned.

    Parameters
    ----------
    samples : RepairSamples
        To solve on, and to choose the ridge on.
    steps : StepOptions
        Variants.
    shared : Repaired, optional
        The one-pass repair. Ridges shrink towards its weights; operators that are used at several places of the
        model, those that lost all their inputs, and those with too many inputs and outputs are taken from it.
    """
    shared = shared or Repaired()
    schedule = _Schedule.of(
        cut, steps, [replacement for replacement in shared.replacements if isinstance(replacement, Replacement)]
    )
    walk = _Walk(cut, samples, steps, schedule)
    # What cannot be refitted step by step keeps its one-pass repair from the start, so that later steps see it.
    replacements: list[Replacement | VectorReplacement] = list(schedule.taken)
    stepped = {linear.label for linear in schedule.order}
    notes = [note for note in shared.notes if note.operator not in stepped]
    # In graph order each step sees a model that is repaired up to it.
    stops: list[Linear | NormalizationParameters] = sorted([*schedule.order, *find_normalizations(cut)], key=_place)
    for stop in counted(stops, "repair", progress):
        with stage("repair", stop.node.label if isinstance(stop, NormalizationParameters) else stop.label):
            replacement, note = (
                walk.refit_normalization(stop) if isinstance(stop, NormalizationParameters) else walk.step(stop)
            )
        if note.used or isinstance(stop, NormalizationParameters) or not stop.kept_features(cut.keeping).all():
            notes.append(note)  # an operator that lost nothing and is fed rightly needs no repair
        replacements.extend(replacement)
    return Repaired(tuple(replacements), tuple(notes))


def _place(stop: Linear | NormalizationParameters) -> int:
    return stop.node.index if isinstance(stop, NormalizationParameters) else stop.nodes[0].index


def _wanted(linear: Linear, keeping: Keeping, steps: StepOptions) -> bool:
    if linear.obstacle is not None or len(linear.nodes) != 1 or _too_wide(linear):
        return False
    if linear.layout.reads_own_result or not linear.holds_bias:
        return False
    return steps.everywhere or not linear.kept_features(keeping).all()


def _too_wide(linear: Linear) -> bool:
    """Whether the moments of what goes in beside what comes out are too much to hold: a large vocabulary's."""
    return linear.features + linear.outputs.size // linear.groups > WIDEST


@dataclass(frozen=True, eq=False)
class _Schedule:
    """Which operators are refitted step by step.

    Attributes
    ----------
    order : tuple of Linear
        Those operators, in the order of the graph.
    one_pass : mapping
        Linear.key -> what the one-pass repair gave it.
    taken : tuple of Replacement
        The one-pass repair of operators that are not refitted step by step, but get new weights.
    """

    order: tuple[Linear, ...]
    one_pass: Mapping[str, Replacement]
    taken: tuple[Replacement, ...]

    @staticmethod
    def of(cut: Cut, steps: StepOptions, one_pass: Sequence[Replacement]) -> _Schedule:
        branches = cut.branches
        varying = Flow.of(cut.model.graph).varying  # both models have rows of their own there: nothing to compare
        paired = [one for one in cut.linears if not varying.intersection(one.taps) and branches.remain(one)]
        one_by_one = steppable_in_loops(cut.model.graph, paired, cut.graph.axes)
        order = tuple(
            linear
            for linear in paired
            if _wanted(linear, cut.keeping, steps) and (not linear.nodes[0].loops or linear.key in one_by_one)
        )
        taken = [
            replacement
            for replacement in one_pass
            if len(replacement.linear.nodes) > 1
            or branches.constant(replacement.linear)
            or _too_wide(replacement.linear)
            or replacement.linear.layout.reads_own_result
            or not replacement.linear.holds_bias
            or varying.intersection(replacement.linear.taps)
            or (replacement.linear.nodes[0].loops and replacement.linear.key not in one_by_one)
        ]
        return _Schedule(order, {replacement.linear.key: replacement for replacement in one_pass}, tuple(taken))

    def start(self, cut: Cut, linear: Linear) -> Replacement:
        """What an operator is until its turn: sliced, with a bias of its own, so that a step can replace it by name.

        In a loop all operators run before the first one's turn, so there it is its one-pass repair.
        """
        known = self.one_pass.get(linear.key) if linear.nodes[0].loops else None
        return known or _unrepaired(cut, linear)


class _Walk:
    """Both models on their way through the calibration samples."""

    def __init__(self, cut: Cut, samples: RepairSamples, steps: StepOptions, schedule: _Schedule) -> None:
        model, graph, options = cut.model, cut.graph, samples.options
        self._cut, self._steps, self._one_pass = cut, steps, schedule.one_pass
        self._model, self._graph, self._keeping = model, graph, cut.keeping
        self._sampler, self._samples = samples.sampler(), samples
        self._pending = [linear.nodes[0].result for linear in schedule.order]
        self._masks = padding_masks(model, graph, schedule.order, options.mask)
        self._any_mask = next(iter(self._masks.values()), None)
        working = prune_channels(cut, [*(schedule.start(cut, linear) for linear in schedule.order), *schedule.taken])
        inputs = [batch.feeds for batch, _ in samples.batches()]
        routes = Routes.of(model, inputs, options.threads)
        self._original = OriginalWalk(cut, samples, inputs, self._masks, routes)
        self._pruned = routes.steps(working, inputs, lambda proto, own: Stepper(proto, own, options.threads))

    def refit_normalization(
        self, normalization: NormalizationParameters
    ) -> tuple[tuple[VectorReplacement, ...], RepairNote]:
        """Advance past one normalization and refit its scale and shift."""
        measured: dict[bool, PairMoments] = {}
        name = normalization.result
        for (batch, part), original, cut in zip(
            self._samples.batches(), self._original.to(name), self._pruned.to([name]), strict=True
        ):
            if name not in original:  # the batch takes another branch
                continue
            staying = remaining_rows(original[name], self._graph.axes.get(name), (-1,), self._keeping)
            before, after = (value.reshape(-1, value.shape[-1]) for value in (staying, cut[name]))
            # All rows without padding: one scale and shift per channel are cheap to fit.
            row_indices = self._sampler.sample(len(before), batch, self._any_mask, np.inf)
            batch_moments = PairMoments.of(after[row_indices], before[row_indices][:, normalization.kept])
            of_validation = part == VALIDATION
            measured[of_validation] = (
                measured[of_validation].merge(batch_moments) if of_validation in measured else batch_moments
            )
        if False not in measured:
            return (), RepairNote(normalization.node.label, used=False, reason=UNSEEN)
        correction, replacements, note = refit_normalization(
            self._model, normalization, measured[False], measured.get(True)
        )
        if correction is not None:
            # The tensor is at hand, so it is corrected instead of run again.
            self._pruned.amend(name, *correction)
        return replacements, note

    def step(self, linear: Linear) -> tuple[tuple[Replacement, ...], RepairNote]:
        """Advance to one operator, solve it and install the solution."""
        operator_cut = OperatorCut.of(self._cut, linear)
        self._pending.remove(linear.nodes[0].result)
        measured = self._measure(linear, operator_cut, self._epilogue(linear))
        known = self._one_pass.get(linear.key) if linear.nodes[0].loops else None
        kept = () if known is None else (known,)
        if not measured.reached:
            return kept, RepairNote(linear.label, used=bool(kept), reason=UNSEEN)
        try:
            regressions = measured.regressions()
            solved = [_solve(regression, measured, group) for group, regression in enumerate(regressions)]
            solved = quantize_solutions(operator_cut, solved, regressions)
        except NotFiniteError as error:  # the cut made something overflow that did not before
            return kept, RepairNote(linear.label, used=bool(kept), reason=str(error))
        note = note_of(linear, solved)
        if not note.used:
            return kept, replace(note, used=bool(kept))
        replacement = operator_cut.replacement(solved)
        self._install(linear, replacement)
        return (replacement,), note

    def _epilogue(self, linear: Linear) -> Epilogue:
        """What becomes of the result; without the stream where that is not known before the result is."""
        epilogue = find_epilogue(self._model, self._graph, linear)
        if linear.nodes[0].loops:  # everything in a loop may depend on everything, by way of its states
            return epilogue.bare()
        if epilogue.stream is None:
            return epilogue
        if epilogue.stream in self._cut.branches.absent:
            return epilogue.bare()
        # The residual input has to be known before the operator is solved; a later operator may still change it.
        blocked = self._original.before(epilogue.stream).intersection((*self._pending, linear.nodes[0].result))
        return epilogue.bare() if blocked or not self._steps.feedback else epilogue

    def _measure(self, linear: Linear, operator_cut: OperatorCut, epilogue: Epilogue) -> Measured:
        read = [linear.taps[0]] if epilogue.stream is None else [linear.taps[0], epilogue.stream]
        measured = Measured(operator_cut, epilogue, self._priors(operator_cut))
        # Both models advance together, batch by batch: only what later nodes read is held.
        shown = self._pruned.inside if linear.nodes[0].loops else self._pruned.to
        reached = self._pruned.reach(linear.nodes[0].result)
        for original, reaches, cut in zip(self._original.at(linear, epilogue), reached, shown(read), strict=True):
            if not reaches or linear.taps[0] not in cut:  # the batch takes another branch, or no iteration
                continue
            stream = None if epilogue.stream is None else cut[epilogue.stream]
            measured.add(original, cut[linear.taps[0]], stream)
        return measured

    def _priors(self, operator_cut: OperatorCut) -> list[Floats]:
        """Weights that are right where the inputs are the original's: one-pass repaired, or the unrepaired cut's."""
        one_pass = self._one_pass.get(operator_cut.linear.key)
        return (
            [operator_cut.plain(group) for group in range(len(operator_cut.groups))]
            if one_pass is None
            else operator_cut.matrices(one_pass)
        )

    def _install(self, linear: Linear, replacement: Replacement) -> None:
        kept = np.flatnonzero(linear.kept_outputs(self._keeping))
        if replacement.weights is not None:
            self._pruned.set_weight(self._name_of_weights(linear), replacement.weights)
        name = self._name_of_bias(linear)
        sliced = self._pruned.weight(name) if linear.layout.shares_bias else None
        bias = new_bias(self._model, linear, linear.biases[0], replacement.shift, kept, sliced)
        self._pruned.set_weight(name, bias)

    def _name_of_weights(self, linear: Linear) -> str:
        """What the weights are called in the working model."""
        if linear.weights.stored:
            return linear.weight_name
        pieces, (node, operand) = self._pruned, linear.slots[0]
        result = self._model.graph.nodes[node].result
        behind_bias = node == linear.ends[0].index and linear.biases[0] is None and linear.layout.bias is None
        return pieces.result_operand(pieces.result_operand(result, 0) if behind_bias else result, operand)

    def _name_of_bias(self, linear: Linear) -> str:
        """What the bias is called in the working model, which has one for every operator."""
        bias, pieces = linear.biases[0], self._pruned
        if bias is not None and bias.stored is not None:
            node, operand = bias.stored.use
            return pieces.result_operand(self._model.graph.nodes[node].result, operand)
        operand = 1 if linear.layout.bias is None else linear.layout.bias
        return pieces.result_operand(linear.ends[0].result, operand)


def _unrepaired(cut: Cut, linear: Linear) -> Replacement:
    """Return the sliced weights with a bias of their own, to be changed step by step."""
    model, graph, keeping = cut.model, cut.graph, cut.keeping
    shift = np.zeros(int(linear.kept_outputs(keeping).sum()))
    if linear.weights.stored:
        return Replacement(linear, None, shift)
    sliced = slice_array(linear.weights.value(model), graph.axes[linear.weight_name], keeping)
    return Replacement(linear, linear.weights.encoded(model, sliced, kept_along_axes(graph, linear, keeping)), shift)


def _solve(regression: Regression, measured: Measured, group: int) -> Solution:
    """Regress what is missing on the inputs, and add the solution to the unrepaired cut."""
    result = regression.solve()
    # Relative errors; 1 where the results do not vary.
    spread = regression.fit.total_variance(regression.prior) or 1.0
    weights, shift = result.weights, result.bias
    # An activation hides errors where it is flat. Least squares cannot know that, so its solution is refined.
    if result.used:
        weights, shift = _for_activation(measured, group, weights, shift, result.ridge)
    errors = result.error_plain / spread, result.error_repaired / spread
    return Solution(weights, shift, result.ridge, *errors, result.used)


def _for_activation(
    measured: Measured, group: int, weights: Floats, shift: Floats, ridge: float
) -> tuple[Floats, Floats]:
    """Refine a solution for what an activation lets through, and use that where it is better on the validation rows."""
    rows, validation = (measured.activated(group, of_validation=choice) for choice in (False, True))
    if rows is None or validation is None or not np.isfinite(ridge):
        return weights, shift
    refined = refine(rows, weights, shift, ridge)
    # On the same yardstick for both: the error behind the activation, on samples that neither was fitted to.
    return refined if validation.error(*refined) < validation.error(weights, shift) else (weights, shift)
