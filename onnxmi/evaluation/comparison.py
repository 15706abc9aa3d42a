"""Two models' outputs side by side: what is lost of each, by the metrics of its kind and by the damage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.errors import ModelError, UsageError
from onnxmi.evaluation.answers import Collect, batches_of, collect_answers, compare_answers
from onnxmi.evaluation.damage_limits import loss_text, lost
from onnxmi.evaluation.judgement import metric_values
from onnxmi.evaluation.loss import Loss
from onnxmi.evaluation.output_metrics import (
    ComparedOutput,
    ExpectedFlips,
    MetricValue,
    compared_outputs,
    expected_flips,
    find_output_metric,
    fits,
)
from onnxmi.evaluation.unpadded import without_padding
from onnxmi.evaluation.yardstick import Damage, Yardstick
from onnxmi.graph.infer import infer
from onnxmi.graph.padding_mask import mask_inputs
from onnxmi.model import Model
from onnxmi.model.narrow_states import narrower
from onnxmi.outputs.counterpart import Counterpart, counterpart
from onnxmi.outputs.describe import describe
from onnxmi.outputs.infer import infer_meaning
from onnxmi.outputs.override import parse_override
from onnxmi.outputs.sample_axis import Runs
from onnxmi.outputs.view import Answers, Kind, Meaning, View
from onnxmi.runtime.probe import probe
from onnxmi.typing import Array


@dataclass(frozen=True)
class OutputLoss:
    """What is lost of one output.

    Attributes
    ----------
    name : str
        Of the output, or of a part of it.
    kind : str
        See `onnxmi.outputs.view.KINDS`.
    readings : tuple of Reading
        Metrics, the one that decides first.
    expected : ExpectedFlips or None
        How many answers change by what their margins say; None where no class is chosen.
    """

    name: str
    kind: Kind
    readings: tuple[MetricValue, ...]
    expected: ExpectedFlips | None = None

    @property
    def loss(self) -> Loss:
        """What decides."""
        return self.readings[0].loss


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a model loses against another.

    Attributes
    ----------
    meaning : tuple of str
        What is compared, in a line each.
    outputs : tuple of OutputLoss
        One each.
    damage : Damage
        Of all views.
    reference, made : Answers
        What the baseline and the model answer.
    """

    meaning: tuple[str, ...]
    outputs: tuple[OutputLoss, ...]
    damage: Damage
    reference: Answers
    made: Answers

    def worst(self, margin: float) -> OutputLoss | None:
        """Return the output that speaks most against a loss of at most `margin`."""
        severity = {"within": 0, "undecided": 1, "beyond": 2}
        told = [output for output in self.outputs if output.kind != "state"] or list(self.outputs)
        return max(told, key=lambda output: (severity[output.loss.against(margin)], output.loss.value), default=None)

    @property
    def lost(self) -> tuple[str, ...]:
        """Say which views explain less than half of the baseline's, the worst first."""
        return tuple(map(loss_text, lost(self.damage)))


def compare_models(
    old: Model,
    new: Model,
    data: Calibration,
    *,
    metric: str | None = None,
    overrides: Sequence[str] = (),
    ignore: Sequence[str] = (),
    batch_size: int = 32,
    threads: int = 0,
    collect: Collect = collect_answers,
) -> Comparison:
    """Compare a model with the one it is to replace.

    Parameters
    ----------
    old, new : Model
        With the same inputs and outputs.
    data : Calibration
        Samples, all of which are used.
    metric : str, optional
        A metric of `onnxmi.evaluation.output_metrics`, for all outputs that it fits; else each has its own.
    overrides, ignore : sequence of str
        What the outputs mean, where it is not as inferred, and those to leave out.
    batch_size, threads : int
        How to run them.
    collect : callable
        Runs a model for its answers, as `collect_answers` does.

    Raises
    ------
    UsageError
        If nothing is left to compare, or the metric fits no output.
    ModelError
        If a model does not run.
    """
    samples = np.arange(data.count)
    ignore = (*ignore, *_narrower(old, new))
    meaning, masks, ranks = _meaning(old, data, overrides, ignore, threads)
    pair = counterpart(meaning, _meaning_of_other(new, data, ignore, threads), ranks)
    how = data, samples, batch_size, threads
    reference = collect(old.proto, pair.meaning, *how)
    answers = pair.renamed(collect(new.proto, pair.other, *how))
    _require_answers(pair, reference)
    yardstick = _yardstick(pair.meaning, reference)
    padding = [np.asarray(data.arrays[name]) for name in masks if name not in data.whole.union(data.axes)]
    damage = compare_answers(yardstick, reference, answers, padding)
    plain, (first, second) = without_padding(pair.meaning, padding, reference, answers)
    meter = None if metric is None else find_output_metric(metric)

    def output_loss(subject: ComparedOutput) -> OutputLoss:
        readings = metric_values(subject, meter, first, second, data.labels)
        return OutputLoss(subject.name, subject.kind, readings, expected_flips(subject, first, second))

    losses = [
        output_loss(subject)
        for subject in compared_outputs(plain, first, data.labels)
        if meter is None or fits(meter, subject, first, data.labels)
    ]
    if meter is not None and not losses:
        raise UsageError(f"metric {metric}: fits none of the outputs; {'; '.join(describe(pair.meaning))}")
    return Comparison(tuple(describe(pair.meaning)), tuple(losses), damage, reference, answers)


# -- what is compared -------------------------------------------------------------------------------------------------


def _narrower(old: Model, new: Model) -> list[str]:
    """Outputs that are narrower states: there is nothing to compare cut units with."""
    narrow = narrower(old.proto, new.proto)
    return [info.name for info in new.graph.outputs if info.name in narrow]


def _meaning(
    model: Model, data: Calibration, overrides: Sequence[str], ignore: Sequence[str], threads: int
) -> tuple[Meaning, list[str], dict[str, int]]:
    """Return what the outputs mean, the inputs that mask padding, and how many axes each float output has."""
    seen = probe(model, data.one_run(np.arange(data.count)))
    graph = infer(model, seen)
    told = [parse_override(text) for text in overrides]
    meaning = infer_meaning(model, seen, graph, Runs.of(data), told, ignore, threads)
    # A stored tensor may be an output: it has a shape, but no run makes it, so there is nothing to compare.
    made = (info.name for info in model.graph.outputs if info.name in seen.shapes and info.name in seen.dtypes)
    ranks = {name: len(seen.shapes[name]) for name in made if seen.dtypes[name].kind == "f"}
    return meaning, list(mask_inputs(model, graph)), ranks


def _meaning_of_other(model: Model, data: Calibration, ignore: Sequence[str], threads: int) -> Meaning:
    """Return what a model's outputs mean; nothing, so that the graph outputs are compared, where none can tell."""
    try:
        return _meaning(model, data, (), ignore, threads)[0]
    except ModelError:
        return Meaning((), {})


def _require_answers(pair: Counterpart, reference: Answers) -> None:
    for view in pair.meaning.views:
        if view.tensor not in reference.values:
            raise UsageError(
                f"output {view.output!r} cannot be compared sample by sample: it has no axis of samples;"
                f" leave it out with --ignore-output {view.output}"
            )


def _yardstick(meaning: Meaning, reference: Answers) -> Yardstick:
    """Make the measure on the very samples: there are no others."""
    made = [Yardstick.of([view], partial(_batches, view, reference)) for view in meaning.views]
    return Yardstick(
        tuple(view for one in made for view in one.views),
        tuple(scale for one in made for scale in one.scales),
        tuple(rows for one in made for rows in one.rows),
    )


def _batches(view: View, reference: Answers) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    yield from (({view.tensor: array}, {}) for _, array in batches_of(view, reference))
