"""The pruning session: a model and its samples, analyzed and measured once, for any number of cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import attrgetter

import numpy as np
import onnx

from onnxmi.budget.goals import Kind
from onnxmi.data.batching import batched
from onnxmi.data.calibration import Calibration
from onnxmi.data.sources import CalibrationLike, as_calibration
from onnxmi.data.splits import HELD_BACK, HELD_BACK_TO_SEARCH, Split, split_samples
from onnxmi.errors import UsageError
from onnxmi.evaluation.evaluation_set import EvaluationSet
from onnxmi.evaluation.judgement import RequestedMetric
from onnxmi.evaluation.offsets import least_damage, mean_offsets
from onnxmi.graph.channel_graph import Layer
from onnxmi.graph.cost import Cost, cost
from onnxmi.graph.layer_filter import Filter, chosen_layers, layer_numbers
from onnxmi.graph.padding_mask import packed
from onnxmi.graph.plan import Plan
from onnxmi.model import Model
from onnxmi.pruning.collect import capture_options, measure_statistics, needed, nothing_measured
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.output_measure import OutputMeasure
from onnxmi.pruning.precision import Precision
from onnxmi.pruning.run_cache import RunCache, open_run_cache
from onnxmi.pruning.run_memory import with_fitting_batches
from onnxmi.pruning.taken_branches import TakenBranches, find_taken_branches, layers_in_idle_branches
from onnxmi.pruning.timings import Timings, open_timings
from onnxmi.quantization.quantize import PreparedModel, QuantizedModel, follow
from onnxmi.quantization.recipe import Recipe
from onnxmi.repair import RepairSamples
from onnxmi.repair.weight_rounding import WeightRounder
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.stopwatch import OWN, Stopwatch
from onnxmi.runtime.timing import SECONDS, Latency
from onnxmi.statistics.row_weights import RowSquares
from onnxmi.statistics.statistics_file import StatisticsFile
from onnxmi.statistics.way_back import WayBack
from onnxmi.transforms.analysis import Analysis, analyze
from onnxmi.transforms.factorize_embedding import factorize_embeddings
from onnxmi.transforms.fix_inputs import require_fixed
from onnxmi.typing import Floats, Progress, Samples
from onnxmi.verification.checks import Check, check_same

N_RANGE_SAMPLES = 256  # samples that static ranges are found on
PROBED = 3  # samples that the model is looked at with, if it takes any number
CHECKED = 8  # samples that the rewrite is checked on
ENOUGH_FOR_MEANS = 512  # samples: more do not make the outputs' means much surer


@dataclass(frozen=True, eq=False)
class PruningSession:
    """What every cut of a model starts from.

    Attributes
    ----------
    analysis : Analysis
        The model with its channel graph.
    data : Calibration
        The samples.
    split : Split
        How the samples are divided.
    layers, left_out : tuple of Layer
        Those that may be cut, and those that are left out.
    unseen, idle : tuple of Layer
        Those of the latter that no compared output tells about, and those in branches that no sample takes.
    taken : TakenBranches
        Which branches the samples take.
    measured : StatisticsFile
        Statistics; empty until they are measured.
    options : PruneOptions
        Of the run.
    outputs : OutputMeasure
        What the outputs mean and are measured by.
    cache : RunCache
        What earlier runs measured.
    timings : Timings
        What the choices are timed by.
    row_squares : RowSquares
        What the prediction of damage finds of the rows' gradients, for the repair.
    precision : Precision or None
        How every cut is quantized; None where the result stays float.
    stopwatch : Stopwatch
        Who times models.
    """

    analysis: Analysis
    data: Calibration
    split: Split
    layers: tuple[Layer, ...]
    left_out: tuple[Layer, ...]
    unseen: tuple[Layer, ...]
    idle: tuple[Layer, ...]
    taken: TakenBranches
    measured: StatisticsFile
    options: PruneOptions
    outputs: OutputMeasure
    cache: RunCache
    timings: Timings
    row_squares: RowSquares
    precision: Precision | None = None
    stopwatch: Stopwatch = OWN

    @property
    def source(self) -> Model:
        """The model as it was given."""
        return self.analysis.source

    @property
    def model(self) -> Model:
        """What is cut: the source, without unused positions."""
        return self.analysis.model

    @cached_property
    def validation_set(self) -> EvaluationSet:
        """The samples that repairs are chosen on."""
        return self.outputs.panel(self.split.validation_or_fit)

    @cached_property
    def search_set(self) -> EvaluationSet:
        """The samples that a search for a loss decides on."""
        return self.outputs.panel(self.split.searched)

    @cached_property
    def test_set(self) -> EvaluationSet:
        """The samples that the result is reported on."""
        return self.outputs.panel(self.split.test)

    @cached_property
    def not_fitted_set(self) -> EvaluationSet:
        """The samples that no weight is fitted to."""
        return self.outputs.panel(self.split.not_fitted)

    @cached_property
    def means_set(self) -> EvaluationSet:
        """As many of the fit samples as tell the means of two models apart."""
        return self.outputs.panel(_spread(self.split.fit, ENOUGH_FOR_MEANS))

    @cached_property
    def repair_samples(self) -> RepairSamples:
        """The samples that are run step by step, as many as temporary files hold."""
        samples = RepairSamples(self.data, self.split.fit, self.split.validation, capture_options(self.options))
        fitting = samples.within(self.model.proto)
        return fitting.weighted(self.way_back(), self.row_squares if fitting is samples else None)

    def way_back(self) -> WayBack:
        """Return the way from the outputs to the linear operators."""
        return WayBack.of(self.analysis, self.data, self.outputs.yardstick, capture_options(self.options))

    @cached_property
    def shared_samples(self) -> RepairSamples:
        """The same, where several cuts are repaired: the original is run for the first of them alone."""
        return self.repair_samples.shared()

    @cached_property
    def trial_samples(self) -> RepairSamples:
        """Those of them that models are tried on in a search."""
        return self.repair_samples.for_trials()

    @cached_property
    def shared_trial_samples(self) -> RepairSamples:
        """The same, where several cuts are repaired."""
        return self.trial_samples.shared()

    def offsets(self, proto: onnx.ModelProto) -> dict[str, Floats]:
        """Return what to add to the columns of a model's outputs so that their means are the original's."""
        return mean_offsets(self.means_set, proto)

    def validation_damage(self, proto: onnx.ModelProto) -> float:
        """Return the damage of a model on the samples that repairs are chosen on."""
        return self.validation_set.damage(self.validation_set.answers(proto)).total

    def least_validation_damage(self, proto: onnx.ModelProto) -> float:
        """Return about the least damage on these samples that offsets of a model's outputs can leave."""
        return least_damage(self.validation_set, proto)

    @cached_property
    def metric(self) -> RequestedMetric:
        """The metric that the user asked for, if any."""
        return RequestedMetric.of(self.options.metric, has_labels=self.data.labels is not None)

    @cached_property
    def dense_cost(self) -> Cost:
        """Parameters, bytes and MACs of the source."""
        return self.cost(self.source.proto)

    @cached_property
    def uncut_cost(self) -> Cost:
        """Parameters, bytes and MACs of what is cut, before it is."""
        return self.dense_cost if self.model is self.source else self.cost(self.model.proto)

    @cached_property
    def source_checks(self) -> tuple[Check, ...]:
        """That what is cut is the source; the same for every cut."""
        if self.model is self.source:
            return ()
        return (check_same(self.source, self.model, self.analysis.probe, self.some_feeds(self.split.fit)),)

    @cached_property
    def timed_feeds(self) -> Feeds:
        """Inputs that times are measured on."""
        if self.options.batch == 1 or self.data.step is not None:
            return self.data.one_run(self.split.test)
        return self.data.feed(np.resize(self.split.test, self.options.batch))

    def time(self, proto: onnx.ModelProto) -> tuple[Latency, Latency]:
        """Time the source and another model in turn, for the report; one thread by its own time."""
        return self._measured_in_turn(self.source.proto, proto, SECONDS)

    def decisive_time(
        self, proto: onnx.ModelProto, before: onnx.ModelProto | None = None, seconds: float = SECONDS
    ) -> tuple[Latency, Latency]:
        """Time the source, or another model, and a model in turn, to decide by it: the plan keeps these times."""
        before = self.source.proto if before is None else before
        was, now = self.timings.of_models(
            (before, proto), self.timed_feeds, lambda: self._measured_in_turn(before, proto, seconds)
        )
        return was, now

    def _measured_in_turn(
        self, before: onnx.ModelProto, after: onnx.ModelProto, seconds: float
    ) -> tuple[Latency, Latency]:
        threads = self.options.threads
        clock = "cpu" if threads == 1 else "wall"  # other processes move a thread's own time less
        was, now = self.stopwatch.measure(
            (before, after), self.timed_feeds, threads=threads, clock=clock, seconds=seconds
        )
        return was, now

    def cost(self, proto: onnx.ModelProto) -> Cost:
        """Parameters, bytes and MACs of a model."""
        return cost(proto, self.data.one_run(self.split.test), self.data.step or 1)

    @cached_property
    def kept_tensors(self) -> tuple[str, ...]:
        """Inner tensors that are compared: a quantized model has to have them, too."""
        outputs = {value.name for value in self.source.proto.graph.output}
        return tuple(name for name in self.outputs.meaning.tensors if name not in outputs)

    def range_feeds(self) -> Iterator[Feeds]:
        """Yield the batches that static ranges of activations are found on, some of the fit samples."""
        few = _spread(self.split.fit, N_RANGE_SAMPLES)
        for _, feeds in self.data.packed(few, self.options.batch_size):
            yield feeds

    def quantized(self, proto: onnx.ModelProto) -> QuantizedModel:
        """Return the 8-bit version of a cut."""
        assert self.precision is not None
        return follow(self.precision.recipe, proto, self.range_feeds(), self.rounding)

    def rounding(self, prepared: PreparedModel, recipe: Recipe) -> PreparedModel:
        """Round weights by the moments of what operators read, where a recipe says so."""
        return self.weight_rounder(prepared).rounded(recipe)

    def weight_rounder(self, prepared: PreparedModel) -> WeightRounder:
        """Return what rounds the weights of a float model, on the samples that ranges are found on."""
        return WeightRounder(prepared, self.range_feeds, self.options.threads)

    def as_written(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Return a cut as its file would be, to be weighed and timed: with ranges of one batch, if it has any."""
        if self.precision is None:
            return proto
        return follow(self.precision.recipe, proto, islice(self.range_feeds(), 1)).proto

    def some_feeds(self, samples: Samples) -> list[Feeds]:
        """Inputs of the few samples that the rewrite is checked on; they take all branches that any takes."""
        return [*(feeds for _, feeds in self.data.batches(samples[:CHECKED], CHECKED)), *self.taken.feeds]


def _spread(samples: Samples, most: int) -> Samples:
    """Return at most so many of the samples, evenly spread over them."""
    return samples[np.unique(np.linspace(0, len(samples) - 1, min(len(samples), most)).astype(np.int64))]


def start_session(
    model: Model,
    calibration: CalibrationLike,
    options: PruneOptions,
    held_back: float = HELD_BACK,
    *,
    split_tables: bool = False,
    given: Plan | None = None,
) -> PruningSession:
    """Look a model and its samples through; nothing is measured yet.

    Parameters
    ----------
    split_tables : bool
        Whether embedding tables are split, so that their width can be cut alone.
    given : Plan, optional
        What is going to be cut, if that is settled.
    """
    timings = open_timings(options.timings, model)
    options = options.for_file(model.size)
    data = batched(model, as_calibration(calibration, model), options.threads)
    looked_at = model
    if split_tables:  # on samples that no split holds back: a plan's indices count along these axes
        looked_at = factorize_embeddings(model, data, split_samples(data, options.seed, HELD_BACK_TO_SEARCH).fit)
    require_fixed(model, data, options.fix)
    states = given.states if given is not None else data.states if options.allow_interface else None
    analysis = analyze(looked_at, data.one_run(np.arange(data.count), PROBED), model, fix=options.fix, states=states)
    layer_filter = Filter(options.cut, options.skip, options.only)
    if looked_at is not model and (numbers := layer_numbers(layer_filter)):
        raise UsageError(
            f"{numbers[0]}: numbers are those of `onnxmi inspect`, which splits no embedding tables; use names beside"
            " --cut embedding"
        )
    layers, left_out = chosen_layers(analysis.model, analysis.graph, layer_filter)
    data = packed(model, analysis.graph, data, options.mask, options.threads)
    split = split_samples(data, options.seed, held_back)
    options = with_fitting_batches(options, analysis, data)
    outputs = OutputMeasure(analysis, data, split.fit, options)
    seen_by_outputs = outputs.told(layers)
    unseen = tuple(layer for layer in layers if layer not in seen_by_outputs)
    taken = find_taken_branches(analysis.model, data, options.threads)
    idle = layers_in_idle_branches(analysis, taken.idle, seen_by_outputs)
    cut = tuple(layer for layer in seen_by_outputs if layer not in idle)
    return PruningSession(
        analysis=analysis,
        data=data,
        split=split,
        layers=cut,
        left_out=(*left_out, *unseen, *idle),
        unseen=unseen,
        idle=idle,
        taken=taken,
        measured=nothing_measured(model),
        options=options,
        outputs=outputs,
        cache=open_run_cache(analysis.model, data, split, cut, options),
        timings=timings,
        row_squares=RowSquares(analysis, options.seed),
    )


def require_costs(session: PruningSession, asked: Mapping[str, Kind]) -> None:
    """Refuse a budget on what the source has nothing of.

    Parameters
    ----------
    asked : mapping
        Option -> the cost that it limits.

    Raises
    ------
    UsageError
        Naming the first of them.
    """
    for named, kind in asked.items():
        if kind in COUNTED and not COUNTED[kind](session.dense_cost):
            raise UsageError(f"{named}: the model has no {SPELLED[kind]}, so this budget has no effect")


SPELLED: Mapping[Kind, str] = {"macs": "multiply-accumulates", "params": "parameters", "size": "bytes"}
"""What is counted, in words."""

COUNTED: Mapping[Kind, Callable[[Cost], int]] = {
    "macs": attrgetter("macs"),
    "params": attrgetter("parameters"),
    "size": attrgetter("size"),
}
"""How to read it off a cost; a time is measured."""


def session_statistics(
    session: PruningSession, given: StatisticsFile | None, progress: Progress, *, selects: bool
) -> StatisticsFile:
    """Return the statistics that a run needs: the given ones, or measured now.

    Raises
    ------
    UsageError
        If units are to be scored against labels, and there are none.
    """
    options = session.options
    measured = given
    if measured is None:
        if not needed(options, selects=selects):
            return session.measured
        measured = session.cache.statistics()
    if measured is None:
        measured = measure_statistics(session.outputs, session.split, progress, session.layers)
        session.cache.keep_statistics(measured)
    measured.fit.require(session.analysis.linears)
    if options.target == "labels" and not measured.fit.classes:
        raise UsageError("no labels to score against: the calibration file has no labels, or more than 1,024 classes")
    return measured
