"""The stages in order: the only place that sequences them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxmi.calibration import Calibration, check_calibration, load_calibration
from onnxmi.capture import CaptureOptions, Progress, capture, silent
from onnxmi.choose_layers import Filter, chosen_layers
from onnxmi.cost import Cost, cost
from onnxmi.deal import Deal, deal_samples
from onnxmi.dims.channel_graph import ChannelGraph, Layer
from onnxmi.dims.infer import infer
from onnxmi.dims.term import Keeping
from onnxmi.errors import ModelError, NothingToPruneError, PlanError, UsageError
from onnxmi.latency import Latency, measure
from onnxmi.linear import Linear, find_linears
from onnxmi.model import Model, load
from onnxmi.plan import Plan, load_plan
from onnxmi.probe import Probe, probe
from onnxmi.quality import Quality, compare, outputs
from onnxmi.repair import Repaired, RepairNote, repair
from onnxmi.rewrite import rewrite
from onnxmi.runtime import Feeds
from onnxmi.scoring import SCORERS
from onnxmi.select_channels import SelectOptions, kept_count, select_channels
from onnxmi.statistics import Statistics
from onnxmi.verify import Check, check_equivalence, check_result, check_shapes, require

_ONE_SAMPLE = "with one sample, none could be held back to measure the quality on"
CHECKED = 8  # samples that the rewrite is checked on

Samples = NDArray[np.int64]


@dataclass(frozen=True)
class PruneOptions:
    """Options of `prune`.

    Attributes
    ----------
    keep : float
        Share of every layer's units that stays, above 0 and at most 1.
    score : str
        joint, pairwise, magnitude, wanda, variance or random.
    estimator : str
        gaussian, or binned for the pairwise score.
    repair : bool
        Refit the weights that lost inputs.
    cut : tuple of str
        Kinds of layers to cut; empty for channels, ffn, heads and hidden.
    skip, only : tuple of str
        Shell patterns of layer names to leave alone, or to cut and no others.
    seed : int
        For the division of the samples, the positions drawn and the random score.
    threads : int
        Intra-operator threads of onnxruntime; 0 lets it choose.
    batch_size : int
        Samples a run.
    latency : bool
        Measure both models' latency.
    """

    keep: float = 0.5
    score: str = "joint"
    estimator: str = "gaussian"
    repair: bool = True
    cut: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seed: int = 0
    threads: int = 0
    batch_size: int = 32
    latency: bool = True

    def check(self) -> None:
        """Raise UsageError where options are out of range or contradict each other."""
        if not 0.0 < self.keep <= 1.0:
            raise UsageError(f"keep is {self.keep}; wanted: a share above 0 and at most 1")
        if (self.score, self.estimator) not in SCORERS:
            known = ", ".join(f"{score} with {estimator}" for score, estimator in SCORERS)
            raise UsageError(f"no score {self.score!r} with estimator {self.estimator!r}; there are: {known}")
        if self.batch_size < 1 or self.threads < 0 or self.seed < 0:
            raise UsageError("batch size must be 1 or more, threads and seed 0 or more")


@dataclass(frozen=True, eq=False)
class Analysis:
    """A model with its channel graph and its linear operators."""

    model: Model
    seen: Probe
    graph: ChannelGraph
    linears: tuple[Linear, ...]


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


ModelLike = Model | onnx.ModelProto | str | Path
CalibrationLike = Calibration | Mapping[str, NDArray[Any]] | str | Path


def analyse(model: ModelLike, feeds: Feeds | None = None) -> Analysis:
    """Load a model and find out what can be cut.

    Raises
    ------
    ModelError
        If the file cannot be read or onnxruntime cannot run the model.
    """
    source = as_model(model)
    seen = probe(source, feeds)
    graph = infer(source, seen)
    return Analysis(source, seen, graph, find_linears(source.graph, graph))


def as_model(model: ModelLike) -> Model:
    """Return a Model from a path, a proto or a Model."""
    if isinstance(model, Model):
        return model
    return Model.of(model) if isinstance(model, onnx.ModelProto) else load(model)


def as_calibration(calibration: CalibrationLike, model: Model) -> Calibration:
    """Return checked calibration samples from a path, a mapping of arrays or a Calibration."""
    if isinstance(calibration, Calibration):
        return calibration
    if isinstance(calibration, Mapping):
        return check_calibration(calibration, model.graph)
    return load_calibration(calibration, model.graph)


def prune(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    *,
    plan: Plan | str | Path | None = None,
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
    analysis = analyse(source, data.one_run(np.arange(data.count), 3))
    layers, left_out = chosen_layers(source, analysis.graph, Filter(options.cut, options.skip, options.only))
    _require_work(analysis, layers, options, given)
    deal = deal_samples(data, options.seed)
    fitted, judged = _measure(analysis, data, deal, options, progress)
    chosen = _plan(analysis, layers, fitted, options, progress) if given is None else given
    keeping = chosen.keeping(analysis.graph)
    cut, checks = _cut(analysis, keeping, data, deal.fit)
    repaired = Repaired()
    if options.repair:
        found = source, analysis.graph, analysis.linears
        repaired = repair(*found, keeping, data, deal, fitted, judged, _capture_options(options), progress)
    result = rewrite(source, analysis.graph, keeping, repaired.replacements) if repaired.replacements else cut
    left_out = left_out if given is None else ()
    return _report(analysis, data, deal.held, chosen, left_out, result, checks, repaired.notes, options)


def _capture_options(options: PruneOptions) -> CaptureOptions:
    return CaptureOptions(options.batch_size, options.threads, options.seed)


def _measure(
    analysis: Analysis, data: Calibration, deal: Deal, options: PruneOptions, progress: Progress
) -> tuple[Statistics, Statistics | None]:
    """Statistics to select by and fit to, and others to judge the fit by (None where there are too few samples)."""
    settings = replace(_capture_options(options), binned=options.estimator == "binned")
    sets = [deal.fit, deal.judge] if deal.judge.size else [deal.fit]
    fitted, *judged = capture(analysis.model, analysis.graph, analysis.linears, data, sets, settings, progress)
    return fitted, judged[0] if judged else None


def _plan(
    analysis: Analysis,
    layers: tuple[Layer, ...],
    statistics: Statistics,
    options: PruneOptions,
    progress: Progress,
) -> Plan:
    settings = SelectOptions(options.keep, options.score, options.estimator, options.seed)
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
        given.keeping(analysis.graph)
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
        proto=result,
        plan=plan,
        analysis=analysis,
        left_out=left_out,
        before=cost(source.proto, one, data.step or 1),
        after=cost(result, one, data.step or 1),
        quality=compare(before, after, labels, len(held)) if data.count > 1 else None,
        latency=None if timed is None else (timed[0], timed[1]),
        repairs=repairs,
        checks=tuple(checks),
        notes=(*data.notes, *([] if data.count > 1 else [_ONE_SAMPLE])),
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
    return cut, tuple(checks)


__all__ = ["Analysis", "ModelError", "PruneOptions", "Result", "analyse", "apply", "prune"]
