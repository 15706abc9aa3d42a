"""The gate: a model against its limits and against the model it is to replace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnxmi.benchmark.compare import sample_macs
from onnxmi.benchmark.inputs import bench_inputs
from onnxmi.budget.fields import (
    Count,
    Flag,
    MaybeCount,
    MaybeText,
    Names,
    Quantity,
    Text,
    count,
    flag,
    maybe_count,
    maybe_text,
    names,
    quantity,
    text,
)
from onnxmi.budget.units import SECONDS, SHARE, read_quantity
from onnxmi.data.batching import batched
from onnxmi.data.calibration import Calibration
from onnxmi.data.sources import CalibrationLike, as_calibration
from onnxmi.errors import ModelError, UsageError, stage
from onnxmi.evaluation.answers import Collect, collect_answers
from onnxmi.evaluation.comparison import Comparison, compare_models
from onnxmi.evaluation.judgement import RequestedMetric
from onnxmi.evaluation.output_metrics import find_output_metric
from onnxmi.gate.drop import drop
from onnxmi.gate.interface import interface_changes
from onnxmi.gate.limits import LIMITS, Measured, Verdict, judge
from onnxmi.gate.report import Report
from onnxmi.model import Model
from onnxmi.model.narrow_states import narrower_text
from onnxmi.outputs.override import parse_override
from onnxmi.runtime.memory import peak_memory
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.runtime.stopwatch import OWN, Stopwatch
from onnxmi.runtime.synthetic import GivenSizes, read_sizes, shapes_text
from onnxmi.runtime.timing import CLOCKS, RELOAD, Latency
from onnxmi.transforms.analysis import ModelLike, as_model
from onnxmi.typing import Progress, silent

RUNS = 1000  # at most: runs next to each other are alike, and so tell less than an interval supposes


@dataclass(frozen=True)
class CheckOptions:
    """What to check a model for, and how.

    Attributes
    ----------
    limits : mapping of str to float or str
        Keys of `onnxmi.gate.limits.LIMITS`, such as "max-size"; bytes, ms, ratios and points, or texts such as "9MB".
    baseline : path, onnx.ModelProto, Model or None
        The model it is to replace.
    data : path, mapping, iterable of feeds, Calibration or None
        Evaluation samples, as `onnxmi.prune` takes them, with `labels` where there are any.
    metric : str or None
        A metric of `onnxmi.evaluation.output_metrics` for every output that it fits, or one of
        `onnxmi.evaluation.metrics` for the first output. None for the metric of each output's kind.
    outputs : tuple of str
        What outputs mean, where it is not as inferred: ``NAME:KIND[:AXIS][*WEIGHT]``.
    ignore_outputs : tuple of str
        Outputs that are not compared.
    shape, dim : str or iterable of str
        Sizes of synthetic inputs: "x=1,512" for an input, "T=512" for a dynamic axis.
    threads, batch, sequence : int
        Threads, samples a run and sizes of other dynamic axes for times and memory; None for those of the samples.
    batch_size : int
        Samples a run for the metric.
    seconds : float
        Longest time for timing.
    precision : float
        Stop once every interval is narrower than this share to both sides.
    clock : str
        wall, or cpu with one thread.
    strict : bool
        Pass only where the whole interval is within the limit.
    between : tuple of path, onnx.ModelProto or Model
        Models on the way there, as the pruned one that was quantized: measured as well, and nothing is asked of them.
    """

    limits: Mapping[str, float | str] = field(default_factory=dict)
    baseline: ModelLike | None = None
    data: CalibrationLike | None = None
    metric: MaybeText = maybe_text()
    outputs: Names = names()
    ignore_outputs: Names = names()
    threads: Count = count(0)
    batch: MaybeCount = maybe_count()
    sequence: MaybeCount = maybe_count()
    shape: Names = names()
    dim: Names = names()
    batch_size: Count = count(32)
    seconds: Quantity = quantity(SECONDS, 20.0)
    precision: Quantity = quantity(SHARE, 0.01)
    clock: Text = text("wall")
    strict: Flag = flag(default=False)
    between: Sequence[ModelLike] = ()

    @property
    def sizes(self) -> GivenSizes:
        """What the user says of the sizes of synthetic inputs."""
        return read_sizes(self.shape, self.dim)

    @cached_property
    def bounds(self) -> Mapping[str, float]:
        """The limits as numbers: bytes, ms, ratios and points.

        Raises
        ------
        UsageError
            If one does not exist, or is no quantity.
        """
        if not isinstance(self.limits, Mapping):
            raise UsageError(f"limits: {self.limits!r} is not a mapping from names of limits to quantities")
        unknown = [name for name in self.limits if name not in LIMITS]
        if unknown:
            raise UsageError(f"no limit {unknown[0]!r}; there are {', '.join(LIMITS)}")
        return {name: _bound(name, bound) for name, bound in self.limits.items()}

    def require(self) -> None:
        """Raise UsageError where nothing is asked, or something cannot be measured."""
        if not self.bounds:
            raise UsageError(f"no limit is given: expected at least one of --{' or --'.join(LIMITS)}")
        for name in self.bounds:
            missing = [f"--{need}" for need in LIMITS[name].needs if getattr(self, need) is None]
            if missing:
                raise UsageError(f"--{name} needs {' and '.join(missing)}")
        if self.metric is not None and "max-drop" not in self.bounds:
            raise UsageError("--metric is for --max-drop, which is not given")
        for override in self.outputs:
            parse_override(override)
        _ = self.sizes
        if self.clock not in CLOCKS or (self.clock == "cpu" and self.threads != 1):
            raise UsageError("expected the wall clock, or the cpu clock with --threads 1")


def _bound(name: str, bound: float | str) -> float:
    try:
        return read_quantity(bound, LIMITS[name].unit)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


@stage("gate")
def check(
    model: ModelLike,
    options: CheckOptions,
    advance: Progress = silent,
    collect: Collect = collect_answers,
    stopwatch: Stopwatch = OWN,
) -> Report:
    """Check a model.

    Parameters
    ----------
    collect : callable
        Runs a model for its answers; see `onnxmi.gate.parallel_answers`.
    stopwatch : Stopwatch, optional
        Who times the models; by default this process.

    Returns
    -------
    Report
        Whatever the verdict: look at `passed`.

    Raises
    ------
    UsageError
        If nothing is asked, or the options do not go together or with the model.
    DataError
        If a file cannot be used.
    """
    options.require()
    new = as_model(model)
    old = None if options.baseline is None else as_model(options.baseline)
    data = None if options.data is None else as_calibration(options.data, old or new)
    if options.metric is not None:
        has_labels = data is not None and data.labels is not None
        RequestedMetric.of(options.metric, has_labels=has_labels)  # what is wrong with it is said before the long work
    subject = _Subject(new, old, data, options, collect, stopwatch)
    verdicts = list(_standing(subject))
    usable = all(verdict.passed for verdict in verdicts)
    for number, (name, bound) in enumerate(options.bounds.items()):
        advance("check", number, len(options.bounds))
        if usable or name in _UNRUN:
            verdicts.append(_judged(subject, name, bound))
        else:
            verdicts.append(
                Verdict(
                    name,
                    passed=False,
                    asked="",
                    measured="not measured",
                    detail="the model cannot stand in for the baseline",
                )
            )
    notes = [*(subject.samples.notes if subject.samples is not None else ()), *_notes(subject)]
    compared = subject.compared.outputs if "compared" in vars(subject) else ()
    against = None if old is None else str(old.path or "the baseline")
    return Report(str(new.path or "the model"), against, tuple(verdicts), tuple(notes), compared)


@dataclass(frozen=True)
class _Subject:
    """What is checked. What is costly is measured once, and only if it is asked for."""

    model: Model
    old: Model | None
    data: Calibration | None
    options: CheckOptions
    collect: Collect
    stopwatch: Stopwatch

    @cached_property
    def samples(self) -> Calibration | None:
        """The data, in batches that the model takes; as it is where it takes none, which is a verdict and no error."""
        try:
            return None if self.data is None else batched(self.old or self.model, self.data, self.options.threads)
        except ModelError:
            return self.data

    @cached_property
    def feeds(self) -> Feeds:
        data = self.samples if self.options.batch is None else self.data
        return bench_inputs(self.old or self.model, data, self.options.batch, self.options.sequence, self.options.sizes)

    @cached_property
    def timed(self) -> tuple[Latency, ...]:
        """Of the baseline, if there is one, and of the model."""
        options = self.options
        return self.stopwatch.measure(
            [model.proto for model in (self.old, self.model) if model is not None],
            self.feeds,
            threads=options.threads,
            runs=RUNS,
            seconds=options.seconds,
            clock=options.clock,
            # a percentile far out needs more runs than a median: all that there is time for
            precision=None if "max-p95" in options.bounds else options.precision,
            reload=RELOAD,
        )

    @cached_property
    def compared(self) -> Comparison:
        """All outputs of the baseline and the model, on all samples."""
        assert self.old is not None
        assert self.samples is not None
        options = self.options
        return compare_models(
            self.old,
            self.model,
            self.samples,
            metric=options.metric if options.metric is not None and find_output_metric(options.metric) else None,
            overrides=options.outputs,
            ignore=options.ignore_outputs,
            batch_size=options.batch_size,
            threads=options.threads,
            collect=self.collect,
        )


def _standing(subject: _Subject) -> Iterator[Verdict]:
    """Check what is asked of every model: that it runs, and that it takes and gives what the baseline does."""
    if subject.old is not None:
        changes = interface_changes(subject.old, subject.model)
        narrow = narrower_text(subject.old.proto, subject.model.proto)
        detail = "; ".join([*changes, *([f"narrower states: {narrow}"] if narrow else [])])
        yield Verdict("interface", not changes, "unchanged", "changed" if changes else "unchanged", detail)
    feeds = subject.feeds
    if subject.old is not None:
        open_session(subject.old.proto).run(feeds)  # a baseline that does not run is an error, not a verdict
    try:
        made = open_session(subject.model.proto).run(feeds)
    except ModelError as error:
        yield Verdict("runs", passed=False, asked="finite outputs", measured="fails", detail=str(error))
        return
    broken = [name for name, value in made.items() if not _finite(value)]
    detail = f"not finite: {', '.join(broken)}" if broken else ""
    yield Verdict("runs", not broken, "finite outputs", "not finite" if broken else "finite outputs", detail)


def _finite(value: Any) -> bool:
    return not isinstance(value, np.ndarray) or value.dtype.kind != "f" or bool(np.isfinite(value).all())


# -- what is measured -------------------------------------------------------------------------------------------------


def _size(subject: _Subject) -> Measured:
    return Measured(subject.model.size)


def _size_ratio(subject: _Subject) -> Measured:
    assert subject.old is not None
    return Measured(subject.model.size / subject.old.size)


def _macs(subject: _Subject) -> Measured:
    return Measured(sample_macs(subject.model, subject.samples, subject.options.sequence, subject.options.sizes))


def _memory(subject: _Subject) -> Measured:
    if subject.model.path is None:
        raise UsageError("--max-memory needs a model file: a process of its own loads it")
    return Measured(peak_memory(subject.model.path, subject.feeds, subject.options.threads))


def _latency(subject: _Subject) -> Measured:
    latency = subject.timed[-1]
    return Measured(latency.median, latency.interval())


def _p95(subject: _Subject) -> Measured:
    latency = subject.timed[-1]
    return Measured(latency.p95, latency.interval(0.95))


def _speedup(subject: _Subject) -> Measured:
    old, new = subject.timed
    return Measured(new.speedup_over(old), new.speedup_interval(old))


def _drop(subject: _Subject) -> Measured:
    options, labels = subject.options, None if subject.data is None else subject.data.labels
    return drop(subject.compared, options.bounds["max-drop"], options.metric, labels)


def _judged(subject: _Subject, name: str, bound: float) -> Verdict:
    """Judge one limit. Outputs that are lost pass no limit on the drop, whatever the metric says."""
    verdict = judge(name, bound, MEASURES[name](subject), strict=subject.options.strict)
    lost = subject.compared.lost if name == "max-drop" else ()
    if not lost:
        return verdict
    return replace(verdict, passed=False, undecided=False, detail="; ".join(filter(None, (lost[0], verdict.detail))))


MEASURES: Mapping[str, Callable[[_Subject], Measured]] = {
    "max-size": _size,
    "max-size-ratio": _size_ratio,
    "max-macs": _macs,
    "max-memory": _memory,
    "max-latency": _latency,
    "max-p95": _p95,
    "min-speedup": _speedup,
    "max-drop": _drop,
}
_UNRUN = ("max-size", "max-size-ratio")  # these need no run


def _notes(subject: _Subject) -> Iterator[str]:
    options = subject.options
    if "timed" in vars(subject):
        threads = {0: "onnxruntime's choice of threads", 1: "1 thread"}.get(
            options.threads, f"{options.threads} threads"
        )
        batch = next((value.shape[0] for value in subject.feeds.values() if value.ndim), 1)
        runs = len(subject.timed[-1].times)
        yield f"timed in {runs:,} runs, {threads}, batch {batch}, {options.clock} clock"
        yield from filter(None, [subject.stopwatch.note])
    if subject.data is None:
        of = f" ({shapes_text(subject.feeds)})" if "feeds" in vars(subject) else ""
        yield f"the inputs are synthetic{of}; give your own samples with --data"
