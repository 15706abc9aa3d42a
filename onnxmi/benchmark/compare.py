"""Benchmarks: models side by side, in time, memory, size and work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from onnxmi.benchmark.inputs import bench_inputs, fixed_batch
from onnxmi.benchmark.steps import NamedModel, stored_types, with_float_steps
from onnxmi.budget.fields import Count, Counts, Flag, Names, Quantity, Text, count, counts, flag, names, quantity, text
from onnxmi.budget.units import SECONDS
from onnxmi.data.calibration import Calibration
from onnxmi.data.sources import CalibrationLike, read_samples
from onnxmi.errors import UsageError, stage
from onnxmi.graph.cost import cost, parameters
from onnxmi.model import Model
from onnxmi.runtime.memory import peak_memory
from onnxmi.runtime.profile import OperatorTime, operator_times
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.synthetic import NO_SIZES, GivenSizes, read_sizes, shapes_text
from onnxmi.runtime.timing import CLOCKS, RELOAD, Interval, Latency, measure_latency
from onnxmi.transforms.analysis import ModelLike, as_model
from onnxmi.typing import Progress, silent

PRECISION = 0.01  # intervals narrower than this share to both sides are good enough


@dataclass(frozen=True)
class BenchOptions:
    """Options of `bench`.

    Attributes
    ----------
    data : path, mapping, iterable of feeds, Calibration or None
        Samples, as `onnxmi.prune` takes them; None makes inputs up.
    threads : tuple of int
        Intra-operator threads to try; 0 lets onnxruntime choose.
    batch : tuple of int
        Samples a run to try; empty for what the model fixes, or 1.
    sequence : tuple of int
        Sizes of the other dynamic axes to try; empty for those of the samples.
    shape, dim : str or iterable of str
        Sizes of synthetic inputs: "x=1,512" for an input, "T=512" for a dynamic axis.
    seconds : float
        Longest time in s for one setting, all models together.
    runs : int
        Most runs of each model in one setting.
    clock : str
        wall, or cpu with one thread.
    memory, operators : bool
        Measure the peak memory; profile the operators (in the first setting).
    steps : bool
        The models are steps from the first to the last: say what each did. Where only the first is before a quantized
        model with its plan beside it, the float model in between is made by the plan and measured, too.
    """

    data: CalibrationLike | None = None
    threads: Counts = counts(0)
    batch: Counts = counts()
    sequence: Counts = counts()
    shape: Names = names()
    dim: Names = names()
    seconds: Quantity = quantity(SECONDS, 5.0)
    runs: Count = count(1000)
    clock: Text = text("wall")
    memory: Flag = flag(default=True)
    operators: Flag = flag(default=True)
    steps: Flag = flag(default=False)

    @property
    def sizes(self) -> GivenSizes:
        """What the user says of the sizes of synthetic inputs."""
        return read_sizes(self.shape, self.dim)

    def check(self) -> None:
        """Raise UsageError where options are out of range or contradict each other."""
        if self.clock not in CLOCKS or (self.clock == "cpu" and self.threads != (1,)):
            raise UsageError("the clock is wall, or cpu, which counts one thread: it needs --threads 1")
        if min((*self.batch, *self.sequence, self.runs)) < 1 or min(self.threads, default=-1) < 0:
            raise UsageError("batch, sequence and runs must be 1 or more, threads 0 or more")
        _ = self.sizes
        if not self.seconds > 0:
            raise UsageError(f"seconds: {self.seconds:g}: wanted: a time above 0")


@dataclass(frozen=True)
class Setting:
    """What one row was measured at; length is None where it is that of the samples or the model has none."""

    threads: int
    batch: int
    length: int | None


@dataclass(frozen=True)
class Subject:
    """A model of a benchmark: its name, bytes on the disk, parameters, and the types of its stored numbers."""

    name: str
    size: int
    parameters: int
    stored: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """One model in one setting.

    Attributes
    ----------
    model : str
        Its name.
    setting : Setting
        Threads, batch and length.
    latency : Latency
        Of one run.
    speedup, speedup_interval : float, Interval
        Against the first model, turn by turn.
    step, step_interval : float, Interval
        The same against the model before it; of the first, against itself.
    macs : int
        Multiply-accumulates for one sample.
    memory : int or None
        Bytes that loading and running the model adds to a process.
    """

    model: str
    setting: Setting
    latency: Latency
    speedup: float
    speedup_interval: Interval
    step: float
    step_interval: Interval
    macs: int
    memory: int | None

    @property
    def throughput(self) -> float:
        """Samples a second."""
        return self.setting.batch / self.latency.median * 1e3

    @property
    def gmacs_per_second(self) -> float:
        """Billions of multiply-accumulates a second."""
        return self.macs * self.setting.batch / self.latency.median / 1e6


@dataclass(frozen=True, eq=False)
class Bench:
    """What a benchmark found: the models, a row for each in each setting, and the first one's operators of each."""

    subjects: tuple[Subject, ...]
    rows: tuple[Row, ...]
    operators: tuple[tuple[OperatorTime, ...], ...]
    notes: tuple[str, ...]
    by_steps: bool = False


@stage("bench")
def bench(models: Sequence[ModelLike], options: BenchOptions | None = None, advance: Progress = silent) -> Bench:
    """Measure models side by side.

    Parameters
    ----------
    models : sequence of path, onnx.ModelProto or Model
        Speed-ups are against the first; the memory is measured of those that come from a file.
    options : BenchOptions, optional
        See there.
    advance : callable(stage, done, total)
        Called during the work.

    Raises
    ------
    UsageError
        If the options do not fit a model or each other.
    DataError
        If a file cannot be used.
    """
    options = options or BenchOptions()
    options.check()
    given = [as_model(model) for model in models]
    named = [NamedModel(*pair) for pair in zip(unique_names([model.path for model in given]), given, strict=True)]
    if options.steps:
        named = list(with_float_steps(named, options.sizes))
    names, loaded = [one.name for one in named], [one.model for one in named]
    data = _samples(options.data, loaded)
    settings = list(_settings(options, loaded, data))
    feeds = [
        [bench_inputs(*pair, at.batch, at.length, options.sizes) for pair in zip(loaded, data, strict=True)]
        for at in settings
    ]
    rows: list[Row] = []
    for number, (at, inputs) in enumerate(zip(settings, feeds, strict=True)):
        advance("bench", number, len(settings))
        rows += _rows(names, loaded, data, at, inputs, options)
    operators: tuple[tuple[OperatorTime, ...], ...] = ()
    if options.operators:
        pairs = zip(loaded, feeds[0], strict=True)
        operators = tuple(operator_times(model.proto, inputs, settings[0].threads) for model, inputs in pairs)
    subjects = [
        Subject(name, m.size, parameters(m.graph), stored_types(m)) for name, m in zip(names, loaded, strict=True)
    ]
    notes = tuple(_notes(options, data, feeds[0][0]))
    return Bench(tuple(subjects), tuple(rows), operators, notes, options.steps)


def _samples(data: CalibrationLike | None, models: Sequence[Model]) -> list[Calibration | None]:
    """Check the samples against each model; what can be read once only is read once."""
    if data is None:
        return [None for _ in models]
    samples = read_samples(data, models[0])
    return [samples.check(model.graph) for model in models]


def unique_names(paths: Sequence[Path | None]) -> list[str]:
    """Return a name for each model: of its file without its ending, or its path where two have the same; a number."""
    short = [f"model {number}" if path is None else path.stem for number, path in enumerate(paths, 1)]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths, strict=True)]


def _settings(options: BenchOptions, models: Sequence[Model], data: Sequence[Calibration | None]) -> Iterator[Setting]:
    fixed = fixed_batch(models[0], options.sizes) if data[0] is None else data[0].step
    batches = options.batch or (fixed or 1,)
    lengths: tuple[int | None, ...] = options.sequence or (None,)
    for threads, batch, length in product(options.threads, batches, lengths):
        yield Setting(threads, batch, length)


def _rows(
    names: Sequence[str],
    models: Sequence[Model],
    data: Sequence[Calibration | None],
    at: Setting,
    feeds: Sequence[Feeds],
    options: BenchOptions,
) -> Iterator[Row]:
    timed = measure_latency(
        [model.proto for model in models],
        feeds,
        threads=at.threads,
        runs=options.runs,
        seconds=options.seconds,
        clock=options.clock,
        precision=PRECISION,
        reload=RELOAD,
    )
    before = (timed[0], *timed)
    for name, model, samples, inputs, latency, previous in zip(names, models, data, feeds, timed, before, strict=False):
        yield Row(
            model=name,
            setting=at,
            latency=latency,
            speedup=latency.speedup_over(timed[0]),
            speedup_interval=latency.speedup_interval(timed[0]),
            step=latency.speedup_over(previous),
            step_interval=latency.speedup_interval(previous),
            macs=sample_macs(model, samples, at.length, options.sizes),
            memory=peak_memory(model.path, inputs, at.threads) if options.memory and model.path else None,
        )


def sample_macs(model: Model, data: Calibration | None, length: int | None, sizes: GivenSizes = NO_SIZES) -> int:
    """Return the multiply-accumulates for one sample; on as few samples as possible, as all tensors are looked at."""
    feeds = bench_inputs(model, data, None, length, sizes)
    return cost(model.proto, feeds, (fixed_batch(model, sizes) if data is None else data.step) or 1).macs


def _notes(options: BenchOptions, data: Sequence[Calibration | None], first: Feeds) -> Iterator[str]:
    if options.data is None:
        yield f"the inputs are synthetic ({shapes_text(first)}); give your own samples with --data"
    if options.clock == "cpu":
        yield "times are processor time, not wall-clock time"
    yield from dict.fromkeys(note for samples in data if samples is not None for note in samples.notes)
