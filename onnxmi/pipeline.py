"""The stages in order: the only place that sequences them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxmi.analysis import Analysis, CalibrationLike, ModelLike, analyse, as_calibration, as_model
from onnxmi.branches import find_branches
from onnxmi.calibration import Calibration
from onnxmi.capture import Progress, silent
from onnxmi.choose_layers import Filter, chosen_layers
from onnxmi.cost import Cost, cost
from onnxmi.deal import deal_samples
from onnxmi.dims.channel_graph import Layer
from onnxmi.dims.term import Keeping
from onnxmi.errors import ModelError, NothingToPruneError, PlanError, UsageError
from onnxmi.latency import Latency, measure
from onnxmi.measurement import Measurement
from onnxmi.measuring import (
    capture_options,
    collect,
    given_statistics,
    measure_statistics,
    measured_notes,
    needed,
    nothing_measured,
)
from onnxmi.model import Model
from onnxmi.model.lean import whole
from onnxmi.options import PruneOptions
from onnxmi.plan import Plan, load_plan
from onnxmi.quality import Quality, compare, outputs
from onnxmi.repair import Repaired, RepairNote, repair
from onnxmi.rewrite import rewrite
from onnxmi.runtime import Feeds
from onnxmi.scoring import UNMEASURED
from onnxmi.select_channels import SelectOptions, kept_count, select_channels, unscored
from onnxmi.statistics import Statistics
from onnxmi.verify import Check, check_equivalence, check_result, check_shapes, require

_ONE_SAMPLE = "with one sample, none could be held back to measure the quality on"
CHECKED = 8  # samples that the rewrite is checked on

Samples = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Result:
    """What `prune` made and found.

    Attributes
    ----------
    proto : onnx.ModelProto
        The verified, smaller model.
    plan : Plan
        What stays of each layer that was cut.
    analysis : Analysis
        The source's channel graph, with what was frozen and why.
    left_out : tuple of Layer
        Layers the user excluded.
    before, after : Cost
        Parameters, bytes and MACs.
    quality : Quality or None
        On samples that nothing was fitted to; None where there is only one sample.
    latency : tuple of two Latency, or None
        Of the original and of the result, on one sample.
    repairs : tuple of RepairNote
        What repair did to each operator.
    checks : tuple of Check
        All of them passed.
    notes : tuple of str
        What the user should know.
    """

    proto: onnx.ModelProto
    plan: Plan
    analysis: Analysis
    left_out: tuple[Layer, ...]
    before: Cost
    after: Cost
    quality: Quality | None
    latency: tuple[Latency, Latency] | None
    repairs: tuple[RepairNote, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]


def prune(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    *,
    plan: Plan | str | Path | None = None,
    statistics: Measurement | str | Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Make a model smaller: score, select top-down, cut, repair and verify.

    Parameters
    ----------
    model : path, onnx.ModelProto or Model
        The source; never changed.
    calibration : path of an .npz file, mapping of arrays, or Calibration
        Sample inputs, named as the graph's inputs, samples on the first axis; `labels` is optional.
    options : PruneOptions, optional
        See there.
    plan : Plan or path, optional
        Cut what this plan says instead of scoring and selecting.
    statistics : Measurement or path, optional
        Use what `collect` measured instead of measuring it now.
    progress : callable(stage, done, total), optional
        Called during long work.

    Returns
    -------
    Result
        Its model passed every check; save it with `onnxmi.save`.

    Raises
    ------
    OnnxmiError
        See `onnxmi.errors`.
    """
    options = options or PruneOptions()
    options.check()
    source = as_model(model)
    given = None if plan is None else given_plan(plan, source)
    data = as_calibration(calibration, source)
    measured = None if statistics is None else given_statistics(statistics, source, options)
    analysis = analyse(source, data.one_run(np.arange(data.count), 3))
    layers, left_out = chosen_layers(source, analysis.graph, Filter(options.cut, options.skip, options.only))
    _require_work(analysis, layers, options, given)
    deal = deal_samples(data, options.seed)
    if measured is None and needed(options, selects=given is None):
        measured = measure_statistics(analysis, data, deal, options, progress)
    if measured is None:
        measured = nothing_measured(source)
    else:
        measured.fit.require(analysis.linears)
    if options.target == "labels" and not measured.fit.classes:
        raise UsageError("no labels to score against: the calibration file has none, or none of 1,024 classes or fewer")
    chosen = _plan(analysis, layers, measured.fit, options, progress) if given is None else given
    keeping = chosen.keeping(analysis.graph)
    cut, checks = _cut(analysis, keeping, data, deal.fit)
    repaired = Repaired()
    if options.repair:
        found = source, analysis.graph, analysis.linears
        settings = capture_options(options)
        repaired = repair(*found, keeping, data, deal, measured.fit, measured.judge, settings, progress)
    result = rewrite(source, analysis.graph, keeping, repaired.replacements) if repaired.replacements else cut
    left_out = left_out if given is None else ()
    notes = measured_notes(measured, data, deal)
    if given is None:
        notes += _scored_notes(analysis, layers, measured.fit, options)
    return _report(analysis, data, deal.held, chosen, left_out, result, checks, repaired.notes, notes, options)


def _scored_notes(
    analysis: Analysis, layers: tuple[Layer, ...], statistics: Statistics, options: PruneOptions
) -> list[str]:
    if options.score in UNMEASURED:
        return []
    unseen = unscored(analysis.model, analysis.graph, analysis.linears, statistics, layers)
    return [
        f"{layer.name}: chosen by the norms of its weights, nothing that consumes it is measured" for layer in unseen
    ]


def _plan(
    analysis: Analysis,
    layers: tuple[Layer, ...],
    statistics: Statistics,
    options: PruneOptions,
    progress: Progress,
) -> Plan:
    settings = SelectOptions(options.keep, options.score, options.estimator, options.seed, options.target)
    choices = select_channels(analysis.model, analysis.graph, analysis.linears, statistics, layers, settings, progress)
    shown = {name: getattr(options, name) for name in ("keep", "score", "estimator", "cut", "skip", "only", "seed")}
    return Plan(analysis.model.digest, choices, shown)


def given_plan(plan: Plan | str | Path, model: Model) -> Plan:
    """Return a plan from a path or a Plan.

    Raises
    ------
    PlanError
        If it was made for another model, or cuts nothing.
    """
    made = plan if isinstance(plan, Plan) else load_plan(plan)
    if made.digest != model.digest:
        raise PlanError(f"the plan is for a model with digest {made.digest[:12]}, this one's is {model.digest[:12]}")
    if not any(choice.count < choice.size for choice in made.choices):
        raise NothingToPruneError("the plan keeps every unit: there is nothing to do")
    return made


def _require_work(analysis: Analysis, layers: tuple[Layer, ...], options: PruneOptions, given: Plan | None) -> None:
    """Refuse before the long work what would come to nothing."""
    if given is not None:
        if options.cut or options.skip or options.only:
            raise UsageError("a plan says what is cut: cut, skip and only do not go with it")
        find_branches(analysis.model, analysis.graph, given.keeping(analysis.graph))
    elif all(kept_count(layer, options.keep) == layer.size for layer in layers):
        raise NothingToPruneError(_nothing(analysis, layers, options))


def _nothing(analysis: Analysis, layers: tuple[Layer, ...], options: PruneOptions) -> str:
    if analysis.graph.layers:
        why = f"a share of {options.keep:g} keeps every unit of each layer" if layers else "no layer was chosen"
        return f"nothing to prune: {why}"
    reasons = "; ".join(f"{f.name} ({f.size}): {f.reason}" for f in analysis.graph.frozen[:3])
    return f"nothing to prune: the model has no layer that can be cut ({reasons or 'no stored weights are contracted'})"


def _cut(analysis: Analysis, keeping: Keeping, data: Calibration, work: Samples) -> tuple[onnx.ModelProto, list[Check]]:
    """Carry the cut out, and show that the rewrite is right before anything is repaired."""
    cut = rewrite(analysis.model, analysis.graph, keeping)
    feeds = _sample_feeds(data, work)
    checks = [
        check_equivalence(analysis.model, analysis.graph, analysis.seen, keeping, cut, feeds),
        check_shapes(analysis.graph, analysis.seen, keeping, cut, analysis.seen.feeds),
    ]
    require(checks)
    return cut, checks


def _sample_feeds(data: Calibration, samples: Samples) -> list[Feeds]:
    return [feeds for _, feeds in data.batches(samples[:CHECKED], CHECKED)]


def _report(
    analysis: Analysis,
    data: Calibration,
    held: Samples,
    plan: Plan,
    left_out: tuple[Layer, ...],
    result: onnx.ModelProto,
    checks: list[Check],
    repairs: tuple[RepairNote, ...],
    notes: list[str],
    options: PruneOptions,
) -> Result:
    source = analysis.model
    checks = [*checks, *check_result(source, result, _sample_feeds(data, held))]
    require(checks)
    one = data.one_run(held)
    protos = (source.proto, result)
    before, after = (outputs(proto, data, held, options.batch_size, options.threads) for proto in protos)
    labels = None if data.labels is None else data.labels[held]
    timed = measure(protos, one, threads=options.threads) if options.latency else None
    return Result(
        proto=whole(result),  # what it refers to goes with the source
        plan=plan,
        analysis=analysis,
        left_out=left_out,
        before=cost(source.proto, one, data.step or 1),
        after=cost(result, one, data.step or 1),
        quality=compare(before, after, labels, len(held)) if data.count > 1 else None,
        latency=None if timed is None else (timed[0], timed[1]),
        repairs=repairs,
        checks=tuple(checks),
        notes=(*data.notes, *notes, *([] if data.count > 1 else [_ONE_SAMPLE])),
    )


def apply(model: ModelLike, plan: Plan | str | Path) -> tuple[onnx.ModelProto, tuple[Check, ...]]:
    """Replay a plan without calibration data: the plain cut, verified on made-up inputs.

    Raises
    ------
    PlanError
        If the plan is for another model or does not fit.
    """
    analysis = analyse(model)
    chosen = given_plan(plan, analysis.model)
    keeping = chosen.keeping(analysis.graph)
    cut = rewrite(analysis.model, analysis.graph, keeping)
    feeds = [analysis.seen.feeds]
    checks = [
        check_equivalence(analysis.model, analysis.graph, analysis.seen, keeping, cut, feeds),
        check_shapes(analysis.graph, analysis.seen, keeping, cut, analysis.seen.feeds),
        *check_result(analysis.model, cut, feeds),
    ]
    require(checks)
    return whole(cut), tuple(checks)


__all__ = ["Analysis", "ModelError", "PruneOptions", "Result", "analyse", "apply", "collect", "prune"]
