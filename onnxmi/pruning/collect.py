"""Collecting statistics: measured now or read from a file, and what the user should know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from os import PathLike
from typing import Any

import numpy as np

from onnxmi.data.batching import batched
from onnxmi.data.calibration import RANDOM_NOTE, Calibration
from onnxmi.data.contents import samples_digest
from onnxmi.data.shards import Shard
from onnxmi.data.sources import CalibrationLike, as_calibration
from onnxmi.data.splits import LotLimits, Split, split_samples, split_shard
from onnxmi.errors import StatisticsError, UsageError
from onnxmi.graph.channel_graph import Layer
from onnxmi.graph.linear import Linear
from onnxmi.graph.padding_mask import packed
from onnxmi.information import Sensitivity
from onnxmi.model import Model
from onnxmi.model.load import as_path
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.output_measure import OutputMeasure
from onnxmi.pruning.run_memory import OF_SUMS, with_fitting_batches
from onnxmi.runtime.session import limited
from onnxmi.runtime.session import version as onnxruntime_version
from onnxmi.selection.targets import consumes
from onnxmi.statistics.capture import PATCHES, PATCHES_PER_FEATURE, ROWS, ROWS_PER_FEATURE, CaptureOptions, capture
from onnxmi.statistics.output_sensitivity import drawn_samples, measure_sensitivities
from onnxmi.statistics.statistics import Statistics
from onnxmi.statistics.statistics_file import ShardRecord, StatisticsFile, load_statistics
from onnxmi.transforms.analysis import Analysis, ModelLike, analyze, as_model
from onnxmi.transforms.fix_inputs import require_fixed
from onnxmi.typing import Progress, Samples, silent
from onnxmi.version import __version__

BY_DEFAULT = LotLimits()


def collect(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    progress: Progress = silent,
    *,
    shard: Shard | None = None,
) -> StatisticsFile:
    """Measure once what `prune` needs, for many plans; merge what is measured on other samples, save and load it.

    Of the options, the seed, the mask, the memory, the threads and the batch size count.

    Parameters
    ----------
    shard : Shard, optional
        Measure this part of the samples. It draws its share of the rows, images and samples that are drawn of all.
    """
    options = options or PruneOptions()
    options.check()
    source = as_model(model)
    return collect_from(source, as_calibration(calibration, source, shard=shard), options, progress)


def collect_from(
    source: Model, data: Calibration, options: PruneOptions, progress: Progress, limits: LotLimits = BY_DEFAULT
) -> StatisticsFile:
    """Measure samples that were read.

    Parameters
    ----------
    limits : LotLimits
        How the samples of a shard are split.
    """
    record = None if data.shard is None else shard_record(data, options, limits)
    data = batched(source, data, options.threads)
    require_fixed(source, data, options.fix)
    states = data.states if options.allow_interface else None
    analysis = analyze(source, data.one_run(np.arange(data.count), 3), fix=options.fix, states=states)
    data = packed(source, analysis.graph, data, options.mask, options.threads)
    options = with_fitting_batches(options, analysis, data)
    with limited(options.threads):
        split = split_samples(data, options.seed) if record is None else split_shard(data, options.seed, limits)
        measured = measure_statistics(OutputMeasure(analysis, data, split.fit, options), split, progress)
    return replace(measured, shard=record)


def shard_record(data: Calibration, options: PruneOptions, limits: LotLimits) -> ShardRecord:
    """Say what a shard's sums depend on besides what statistics depend on in any case."""
    assert data.shard is not None
    names = ("batch_size", "threads", "outputs", "ignore_outputs", "fix", "allow_interface", "sensitivity", "score")
    chosen = {name: list(value) if isinstance(value := getattr(options, name), tuple) else value for name in names}
    versions = {"onnxmi": __version__, "onnxruntime": onnxruntime_version()}
    return ShardRecord(data.shard, samples_digest(data), {**versions, **chosen, "split": list(astuple(limits))})


def given_statistics(
    statistics: StatisticsFile | str | PathLike[str], model: Model, options: PruneOptions
) -> StatisticsFile:
    """Return statistics from a path or a StatisticsFile; refuse those of another model or measured otherwise."""
    if options.scorer.measure is not None:
        raise UsageError("a statistics file has no histograms: it cannot be combined with the binned estimator")
    measured = (
        statistics if isinstance(statistics, StatisticsFile) else load_statistics(as_path(statistics, "statistics"))
    )
    try:
        measured.require(model.digest, measured_with(options))
    except StatisticsError as error:
        where = "" if isinstance(statistics, StatisticsFile) else f"{statistics}: "
        raise StatisticsError(f"{where}{error}") from error
    return measured


def measured_with(options: PruneOptions) -> dict[str, Any]:
    """What statistics depend on besides the model and the samples."""
    rows = [ROWS, ROWS_PER_FEATURE, PATCHES, PATCHES_PER_FEATURE]
    return {"seed": options.seed, "mask": options.mask, "rows": rows, "positions": "read"}


def capture_options(options: PruneOptions) -> CaptureOptions:
    """Pick the options that say how to run."""
    return CaptureOptions(
        options.batch_size,
        options.threads,
        options.seed,
        measure=options.scorer.measure,
        mask=options.mask,
        memory=None if options.memory is None else max(options.memory // OF_SUMS, 1),
    )


def measure_statistics(
    outputs: OutputMeasure, split: Split, progress: Progress, layers: Sequence[Layer] | None = None
) -> StatisticsFile:
    """Measure the statistics of the fit samples and of the validation samples (None where there are too few).

    Sensitivities are those of what consumes the layers; without layers, of all operators.
    """
    analysis, data, options = outputs.analysis, outputs.data, outputs.options
    sets = [split.fit, split.validation] if split.validation.size else [split.fit]
    fit, *validation = capture(analysis, data, sets, capture_options(options), progress)
    if options.sensitivity and options.scorer.uses_sensitivity:
        fit = _with_sensitivities(fit, outputs, split.fit, progress, layers)
    prints = np.sort(data.fingerprints[np.concatenate(sets)])
    model, how = analysis.model.digest, measured_with(options)
    return StatisticsFile(model, fit, next(iter(validation), None), how, prints, random=data.random)


def _with_sensitivities(
    fit: Statistics, outputs: OutputMeasure, samples: Samples, progress: Progress, layers: Sequence[Layer] | None
) -> Statistics:
    """Add sensitivities; of a shard of which no sample was drawn, say that there is nothing to tell."""
    data, graph = outputs.data, outputs.analysis.model.graph
    if data.shard is not None and not len(drawn_samples(graph, data, samples, outputs.options.seed)):
        return replace(fit, went_back=False)
    return replace(fit, sensitivities=sensitivities_of(outputs, samples, progress, layers))


def sensitivities_of(
    outputs: OutputMeasure, samples: Samples, progress: Progress = silent, layers: Sequence[Layer] | None = None
) -> dict[str, Sensitivity]:
    """Measure how sensitive the outputs are to errors of operators' results; see `measure_sensitivities`."""
    analysis = outputs.analysis
    requested = {linear.key for linear in asked_about(analysis, layers)}
    return measure_sensitivities(
        replace(analysis, linears=asked_about(analysis, None)),
        outputs.data,
        samples,
        outputs.yardstick,
        capture_options(outputs.options),
        requested,
        progress,
    )


def asked_about(analysis: Analysis, layers: Sequence[Layer] | None) -> tuple[Linear, ...]:
    """Return the operators whose sensitivities say what units of some layers, or of any, are worth.

    Convolutions are left out: errors at neighboring positions are alike and add up in the outputs, so the mean over
    positions of how sensitive the outputs are to each says little. Choices by it are worse, if anything: see
    docs/decisions/009.
    """
    linears = tuple(linear for linear in analysis.linears if not linear.kernel)
    if layers is None:
        return linears
    return tuple(linear for linear in linears if any(consumes(linear, layer) for layer in layers))


def needed(options: PruneOptions, *, selects: bool) -> bool:
    """Whether anything reads statistics: repair does, and most scores where units are selected."""
    return options.repair or options.target == "labels" or (selects and options.scorer.needs_statistics)


def nothing_measured(model: Model) -> StatisticsFile:
    """Stand in for statistics that nothing reads."""
    return StatisticsFile(model.digest, Statistics({}, {}, 0), None)


def measured_notes(measured: StatisticsFile, data: Calibration, split: Split) -> list[str]:
    """Say how much was measured, and on what it should not have been."""
    if not measured.samples:
        return []
    notes = [RANDOM_NOTE] if measured.random and not data.random else []
    notes += [f"statistics of {measured.extent}"]
    known = int(np.isin(data.fingerprints[split.test], measured.prints).sum()) if data.count > 1 else 0
    if known:
        notes.append(f"{known} of {len(split.test)} test samples are already in the statistics")
    return notes
