"""Models measured and checked, as users call for it: what `onnxmi bench` and `onnxmi check` do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack, cast

from onnxmi.api.keywords import CountOrCounts, Names, Quantity, merged
from onnxmi.api.results import Bench, Difference, Report
from onnxmi.benchmark import compare
from onnxmi.benchmark.compare import BenchOptions
from onnxmi.data.sources import CalibrationLike
from onnxmi.errors import UsageError
from onnxmi.execution.choose import opened_workers
from onnxmi.gate.check import CheckOptions
from onnxmi.gate.check_by import check_by
from onnxmi.gate.difference import DiffOptions, difference
from onnxmi.gate.limits import LIMITS
from onnxmi.transforms.analysis import ModelLike
from onnxmi.typing import AnyPath, Progress, silent


class BenchFields(TypedDict, total=False):
    """The fields of `onnxmi.BenchOptions`, which explains them."""

    data: CalibrationLike | None
    threads: CountOrCounts
    batch: CountOrCounts
    sequence: CountOrCounts
    shape: Names
    dim: Names
    seconds: float | str
    runs: int
    clock: str
    memory: bool
    operators: bool
    steps: bool


class CheckFields(TypedDict, total=False):
    """The limits of a check, and the fields of `onnxmi.CheckOptions`, which explains them."""

    max_size: Quantity
    max_size_ratio: Quantity
    max_macs: Quantity
    max_memory: Quantity
    max_latency: Quantity
    max_p95: Quantity
    min_speedup: Quantity
    max_drop: Quantity
    baseline: ModelLike | None
    data: CalibrationLike | None
    metric: str | None
    outputs: Names
    ignore_outputs: Names
    threads: int
    batch: int | None
    sequence: int | None
    shape: Names
    dim: Names
    batch_size: int
    seconds: float | str
    precision: float | str
    clock: str
    strict: bool
    between: Sequence[ModelLike]


class DiffFields(TypedDict, total=False):
    """The fields of `onnxmi.DiffOptions`, which explains them."""

    data: CalibrationLike | None
    metric: str | None
    outputs: Names
    ignore_outputs: Names
    shape: Names
    dim: Names
    threads: int
    batch_size: int


def bench(
    *models: ModelLike | Sequence[ModelLike],
    options: BenchOptions | None = None,
    progress: Progress = silent,
    **fields: Unpack[BenchFields],
) -> Bench:
    """Measure models side by side: time, memory, size, work, and where the time goes.

    The models run in turn, so that whatever else the machine does slows all of them. With no options, one sample a run
    on synthetic inputs, with as many threads as onnxruntime chooses, for 5 s.

    Parameters
    ----------
    *models : path, onnx.ModelProto or Model
        Speed-ups are against the first. The memory is measured of models that come from a file.
    options : BenchOptions, optional
        What to measure and how.
    progress : callable(stage, done, total), optional
        Called during the work.
    **fields
        Fields of `BenchOptions`, which win over those of `options`: `data="eval.npz"`, `threads=1`, `batch=(1, 8)`,
        `seconds="2s"`.

    Returns
    -------
    Bench
        `rows` has a row for each model in each setting: median time in ms, speed-up with its interval, MACs, bytes.

    Raises
    ------
    UsageError
        If an option is wrong, or does not fit a model.
    DataError
        If a model or the samples cannot be used.

    Examples
    --------
    >>> result = onnxmi.prune("digits-mlp.onnx", "digits-mlp.calib.npz", keep=0.5, threads=1, output="small.onnx")
    >>> found = onnxmi.bench("digits-mlp.onnx", "small.onnx", threads=1, seconds="100ms", memory=False)
    >>> [(row.model, row.macs) for row in found.rows]
    [('digits-mlp', 84480), ('small', 25856)]
    """
    chosen = merged(options, BenchOptions, fields, "bench", "options", "progress")
    chosen.check()
    flat: list[ModelLike] = []
    for given in models:
        if isinstance(given, list | tuple):
            flat.extend(given)
        else:
            flat.append(cast(ModelLike, given))
    if not flat:
        raise UsageError("models: give one or more to measure")
    return Bench(**vars(compare.bench(flat, chosen, progress)))


def check(
    model: ModelLike,
    options: CheckOptions | None = None,
    *,
    progress: Progress = silent,
    workers: object = None,
    shared: AnyPath | None = None,
    latency_worker: str | None = None,
    **fields: Unpack[CheckFields],
) -> Report:
    """Hold a model against limits, and against the one that it is to replace.

    At least one limit is needed. Besides, the model has to run to finite values, and with a baseline its inputs and
    outputs have to be that model's.

    Parameters
    ----------
    model : path, onnx.ModelProto or Model
        What to check.
    options : CheckOptions, optional
        Limits and how to measure.
    progress : callable(stage, done, total), optional
        Called during the work.
    workers : int, str, distributed.Client or Executor, optional
        Who runs the models on the samples, as for `onnxmi.prune`; sizes are those of this machine.
    shared : path, optional
        A folder that all workers see; by default that of the baseline.
    latency_worker : str, optional
        Name or address of the worker of Dask that times the models; by default this process does.
    **fields
        Limits and fields of `CheckOptions`, which win over those of `options`: `max_size="9MB"`, `max_latency="5ms"`,
        `min_speedup="1.5x"`, `max_drop="1%"`, `baseline="old.onnx"`, `data="eval.npz"`, `threads=1`.

    Returns
    -------
    Report
        Whatever the verdict: look at `passed`, or at `failed` for the checks that failed.

    Raises
    ------
    UsageError
        If no limit is given, or options do not go together or with the model.
    DataError
        If a model or the samples cannot be used.

    Examples
    --------
    >>> report = onnxmi.check("digits-mlp.onnx", max_size="100kB", max_macs="1M")
    >>> report.passed
    False
    >>> [(verdict.name, verdict.passed) for verdict in report.verdicts]
    [('runs', True), ('max-size', False), ('max-macs', True)]
    """
    names = {name.replace("-", "_"): name for name in LIMITS}
    given = {names[name]: bound for name, bound in fields.items() if name in names and bound is not None}
    rest = {name: value for name, value in fields.items() if name not in names}
    chosen = merged(options, CheckOptions, rest, "check", "progress", "workers", "shared", "latency_worker", *names)
    chosen = merged(chosen, CheckOptions, {"limits": {**chosen.bounds, **given}}, "check")
    with opened_workers(workers, shared=shared, latency_worker=latency_worker) as who:
        return Report(**vars(check_by(who, model, chosen, progress)))


def diff(
    first: ModelLike,
    second: ModelLike,
    options: DiffOptions | None = None,
    **fields: Unpack[DiffFields],
) -> Difference:
    """Find out what is different between two models: layers, operators, stored tensors, size, and outputs.

    Layers and tensors are matched by name. Without `data`, the outputs are compared on one input that is made up;
    with it, also by the metrics of `check`.

    Parameters
    ----------
    first, second : path, onnx.ModelProto or Model
        The models, the older first.
    options : DiffOptions, optional
        How to compare.
    **fields
        Fields of `DiffOptions`, which win over those of `options`: `data="eval.npz"`, `threads=1`.

    Returns
    -------
    Difference
        `layers` that differ, `operators`, `tensors`, `costs`, `interface`, `distances` and `compared`.

    Raises
    ------
    DataError
        If a model or the samples cannot be used.
    UsageError
        If an option does not fit the models.

    Examples
    --------
    >>> result = onnxmi.prune("digits-mlp.onnx", "digits-mlp.calib.npz", keep=0.5, threads=1, output="small.onnx")
    >>> found = onnxmi.diff("digits-mlp.onnx", "small.onnx")
    >>> [(layer.name, layer.before, layer.after) for layer in found.layers]
    [('/hidden1/Gemm', 256, 128), ('/hidden2/Gemm', 256, 128)]
    """
    chosen = merged(options, DiffOptions, fields, "diff", "options")
    return Difference(**vars(difference(first, second, chosen)))
