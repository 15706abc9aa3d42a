"""Pruning, as users call it: what `onnxmi prune`, `apply`, `sweep`, `inspect`, `capture` and `merge` do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

import numpy as np

from onnxmi.api.keywords import Names, PruneFields, Quantity, merged
from onnxmi.api.results import Inspection, Result, TradeOff
from onnxmi.api.targets import check_result_target
from onnxmi.budget.goals import Kind
from onnxmi.budget.units import SHARE, read_quantity
from onnxmi.data.shards import parse_shard
from onnxmi.data.sources import CalibrationLike, as_calibration
from onnxmi.errors import UsageError
from onnxmi.execution.choose import SHARDS, opened_workers
from onnxmi.graph.plan import Plan
from onnxmi.model.load import as_path
from onnxmi.pruning import apply_plan, pipeline
from onnxmi.pruning import collect as collecting
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.parallel_capture import collected_by
from onnxmi.runtime.synthetic import read_sizes
from onnxmi.statistics.merging import merge_files
from onnxmi.statistics.statistics_file import StatisticsFile
from onnxmi.transforms.analysis import ModelLike, analyze, as_model, find_meaning
from onnxmi.typing import AnyPath, Progress, silent

PARALLEL = ("workers", "shards", "shared", "latency_worker")  # arguments that say who does the work


def prune(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    *,
    output: AnyPath | None = None,
    plan: Plan | AnyPath | None = None,
    statistics: StatisticsFile | AnyPath | None = None,
    evaluation: CalibrationLike | None = None,
    progress: Progress = silent,
    workers: object = None,
    shards: int = SHARDS,
    shared: AnyPath | None = None,
    latency_worker: str | None = None,
    **fields: Unpack[PruneFields],
) -> Result:
    """Make a model smaller and faster: score units, cut, repair and verify.

    With no options at all, the result is the fastest model found that loses at most 0.01 of the metric (accuracy where
    there are labels, else agreement with the original) on samples that nothing was fitted to.

    Parameters
    ----------
    model : path, onnx.ModelProto or Model
        The original; it is never changed.
    calibration : path, mapping of arrays, iterable of mappings, or Calibration
        Sample inputs, some hundred of them: an `.npz` file, or a mapping from the names of the model's inputs to
        arrays with the samples on their first axis. Or feeds as onnxruntime takes them, one or more samples each: any
        iterable of such mappings (a generator, a list), or an object whose `get_next()` returns the next one and None
        at the end, as a CalibrationDataReader does. An array `labels`, one class a sample, is optional.
    options : PruneOptions, optional
        A budget and everything else that can be chosen.
    output : path, optional
        Where to write the model, and its plan beside it; see `Result.save`. Without it, nothing is written.
    plan : Plan or path, optional
        Cut what this plan says, and repair, instead of selecting.
    statistics : StatisticsFile or path, optional
        Use what `collect` measured instead of measuring it now.
    evaluation : optional
        Samples as `calibration` takes them, on which the result is reported, too; nothing is chosen on them.
    progress : callable(stage, done, total), optional
        Called during long work.
    workers : int, str, distributed.Client or Executor, optional
        Who measures the statistics and what cuts damage, and makes the models of a search: so many processes of this
        machine; a Dask scheduler's address, or `local[:N]`; a client of one. Model and samples have to be files then.
    shards : int
        With workers: parts that samples are measured in. The result depends on it, and not on the workers.
    shared : path, optional
        A folder that all workers see; by default that of the model.
    latency_worker : str, optional
        Name or address of the worker of Dask that times models; by default this process does.
    **fields
        Fields of `PruneOptions`, which win over those of `options`: `speedup=2`, `max_size="10MB"`, `skip="*/head/*"`.

    Returns
    -------
    Result
        Its model passed every check. `print(result)` is the summary, `result.save(path)` writes it.

    Raises
    ------
    UsageError
        If an option is wrong, or options contradict each other.
    ModelError
        If the model cannot be read or run.
    CalibrationError
        If the samples do not fit the model.
    NothingToPruneError
        If no layer can be cut, or none may be.
    CheckError
        If a budget is out of reach, or a check failed. Nothing is written then.
    DataError
        If a file cannot be read or written.

    All are kinds of `OnnxmiError`.

    Examples
    --------
    >>> result = onnxmi.prune("digits-mlp.onnx", "digits-mlp.calib.npz", macs="40%", threads=1, output="small.onnx")
    >>> result.goals[0].name, result.goals[0].met
    ('macs', True)
    >>> result.after.macs <= 0.4 * result.before.macs
    True
    >>> onnx.load("small.onnx") == result.model
    True

    Feeds one by one, as a CalibrationDataReader gives them:

    >>> images = np.load("digits-mlp.calib.npz")["image"]
    >>> feeds = ({"image": image[np.newaxis]} for image in images[:200])
    >>> onnxmi.prune("digits-mlp.onnx", feeds, keep=0.5, threads=1, latency=False)
    <onnxmi.Result: 2 layers cut, 85,002 -> 26,122 parameters, 340.8 kB -> 105.3 kB>
    """
    also = ("output", "plan", "statistics", "evaluation", "progress", *PARALLEL)
    chosen = merged(options, PruneOptions, fields, "prune", *also)
    chosen.check()
    source = as_model(model)
    if output is not None:
        check_result_target(source, as_path(output, "output"), calibration, statistics, evaluation, plan=plan)
    with opened_workers(workers, shards, shared, latency_worker) as who:
        outcome = pipeline.prune(
            source,
            calibration,
            chosen,
            plan=plan,
            statistics=statistics,
            evaluation=evaluation,
            progress=progress,
            workers=who,
        )
    result = Result(**vars(outcome))
    if output is not None:
        result.save(output)
    return result


def apply(
    model: ModelLike, plan: Plan | AnyPath, *, output: AnyPath | None = None, shape: Names = (), dim: Names = ()
) -> Result:
    """Cut what a plan says, without samples and so without repair; the cut is verified on synthetic inputs.

    The same plan gives the same bytes. To repair as well, use `prune(model, calibration, plan=plan)`.

    Parameters
    ----------
    model : path, onnx.ModelProto or Model
        The model that the plan was made for.
    plan : Plan or path
        Such as `Result.plan`, or a file that was written beside a result.
    output : path, optional
        Where to write the model, and the plan beside it.
    shape, dim : str or iterable of str
        Sizes of the synthetic inputs: "x=1,512" for an input, "T=512" for a dynamic axis.

    Returns
    -------
    Result
        Without `quality`, `damage` and `latency`: nothing was measured.

    Raises
    ------
    PlanError
        If the plan is for another model, or cannot be read.
    NothingToPruneError
        If it keeps every unit.
    ModelError
        If the model cannot be read or run.

    Examples
    --------
    >>> result = onnxmi.prune("digits-mlp.onnx", "digits-mlp.calib.npz", keep=0.5, threads=1, latency=False)
    >>> cut = onnxmi.apply("digits-mlp.onnx", result.plan)
    >>> cut.after.parameters == result.after.parameters
    True
    """
    source = as_model(model)
    if output is not None:
        check_result_target(source, as_path(output, "output"), plan=plan)
    result = Result(**vars(apply_plan.apply(source, plan, read_sizes(shape, dim))))
    if output is not None:
        result.save(output)
    return result


def sweep(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    *,
    by: Kind = "time",
    shares: Iterable[Quantity] | None = None,
    statistics: StatisticsFile | AnyPath | None = None,
    progress: Progress = silent,
    workers: object = None,
    shards: int = SHARDS,
    shared: AnyPath | None = None,
    latency_worker: str | None = None,
    **fields: Unpack[PruneFields],
) -> TradeOff:
    """Show what sizes and speeds cost: models at several shares of one cost, from one measurement.

    With no options, seven models between the smallest that can be had and the original, by time. None of them is
    written: choose one and ask `prune` for it.

    Parameters
    ----------
    model, calibration, options, statistics, progress, workers, shards, shared, latency_worker, **fields
        As for `prune`; no budget may be among the options. Workers make and judge the models.
    by : {"time", "size", "params", "macs"}
        The cost that is divided: ms a run, bytes, parameters, or multiply-accumulates.
    shares : iterable of float or str, optional
        Shares of the original's cost, such as 0.5 or "50%".

    Returns
    -------
    TradeOff
        `points`, from the largest model to the smallest; `print` shows them as a table.

    Raises
    ------
    UsageError
        If an option is wrong, or a budget is among them.
    OnnxmiError
        As `prune` does.

    Examples
    --------
    >>> curve = onnxmi.sweep("digits-mlp.onnx", "digits-mlp.calib.npz", by="macs", shares=["60%", "30%"], threads=1)
    >>> [point.share for point in curve.points]
    [0.6, 0.3]
    """
    also = ("by", "shares", "statistics", "progress", *PARALLEL)
    chosen = merged(options, PruneOptions, fields, "sweep", *also)
    chosen.check()
    asked = None if shares is None else _shares(shares)
    with opened_workers(workers, shards, shared, latency_worker) as who:
        curve = pipeline.sweep(
            model, calibration, chosen, by=by, shares=asked, statistics=statistics, progress=progress, workers=who
        )
    return TradeOff(**vars(curve))


def _shares(shares: Iterable[Quantity]) -> tuple[float, ...]:
    if isinstance(shares, str) or not isinstance(shares, Iterable):
        raise UsageError(f"shares: {shares!r} is not a list of shares such as [0.7, '50%']")
    read = tuple(read_quantity(share, SHARE) for share in shares)
    if not all(0.0 < share < 1.0 for share in read):
        raise UsageError(f"shares: {read}: every share has to be between 0 and 1")
    return read


def inspect(
    model: ModelLike,
    calibration: CalibrationLike | None = None,
    *,
    outputs: Names = (),
    ignore_outputs: Names = (),
    fix: Names = (),
    shape: Names = (),
    dim: Names = (),
    threads: int = 0,
) -> Inspection:
    """Find out what can be cut in a model, what cannot and why, and what its outputs mean.

    Parameters
    ----------
    model : path, onnx.ModelProto or Model
        The model.
    calibration : optional
        Samples to run it on, as for `prune`; without them, inputs are made up.
    outputs, ignore_outputs : str or iterable of str
        What outputs mean, and which are not compared; see `PruneOptions`.
    fix : str or iterable of str
        Inputs that always have one value, such as "sr=16000".
    shape, dim : str or iterable of str
        Sizes of synthetic inputs: "x=1,512" for an input, "T=512" for a dynamic axis.
    threads : int
        Intra-operator threads of onnxruntime; 0 lets it choose.

    Returns
    -------
    Inspection
        `layers`, `frozen` and `outputs`; `print` shows them as tables.

    Raises
    ------
    ModelError
        If the model cannot be read, or runs on no inputs that were tried.
    UsageError
        If an output is named that does not exist.

    Examples
    --------
    >>> found = onnxmi.inspect("digits-mlp.onnx")
    >>> [(layer.name, layer.kind, layer.size) for layer in found.layers]
    [('/hidden1/Gemm', 'hidden', 256), ('/hidden2/Gemm', 'hidden', 256)]
    >>> [output.kind for output in found.outputs]
    ['classes']
    """
    chosen = PruneOptions(outputs=outputs, ignore_outputs=ignore_outputs, fix=fix, threads=threads)
    chosen.check()
    source = as_model(model)
    data = None if calibration is None else as_calibration(calibration, source)
    feeds = None if data is None else data.one_run(np.arange(data.count), 3)
    analysis = analyze(source, feeds, sizes=read_sizes(shape, dim), fix=chosen.fix)
    return Inspection(analysis, find_meaning(analysis, data, chosen.overrides, chosen.ignore_outputs, chosen.threads))


def collect(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    progress: Progress = silent,
    *,
    shard: str | None = None,
    workers: object = None,
    shards: int = SHARDS,
    shared: AnyPath | None = None,
    **fields: Unpack[PruneFields],
) -> StatisticsFile:
    """Measure once what `prune` needs, for many plans; `onnxmi capture` does the same.

    Parameters
    ----------
    model, calibration, options, progress, **fields
        As for `prune`. Of the options, the seed, the mask, the memory, the threads and the batch size count.
    shard : str, optional
        Measure one part of the samples, such as "3/8": part 3, from 0 on, of 8. `merge` adds all of them up.
    workers, shards, shared
        As for `prune`: all parts are measured, and added up.

    Returns
    -------
    StatisticsFile
        For the argument `statistics` of `prune` and `sweep`; `save_statistics` writes it, `merge` adds files up.

    Raises
    ------
    OnnxmiError
        As `prune` does.
    """
    chosen = merged(options, PruneOptions, fields, "collect", "progress", "shard", "workers", "shards", "shared")
    part = None if shard is None else parse_shard(shard)
    with opened_workers(workers, shards, shared) as who:
        if who is not None:
            return collected_by(who, as_model(model), calibration, chosen, progress)
    return collecting.collect(model, calibration, chosen, progress, shard=part)


def merge(paths: Sequence[AnyPath]) -> StatisticsFile:
    """Add up statistics files that were measured on different samples of one model.

    Parameters
    ----------
    paths : sequence of path
        What `save_statistics` or `onnxmi capture` wrote: all shards of a source, or files that stand by themselves.

    Returns
    -------
    StatisticsFile
        What one measurement of all samples gives, up to rounding and the rows that each part drew. The order of the
        paths changes nothing.

    Raises
    ------
    StatisticsError
        If a file cannot be read, or they do not fit each other.
    """
    return merge_files([as_path(path, "paths") for path in paths])
