"""What a run would do, without doing it: layers, samples, trials, and about how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from onnxmi.budget.latency_model import PROBES, RUNS
from onnxmi.budget.latency_model import SECONDS as PROBE_SECONDS
from onnxmi.data.sources import CalibrationLike
from onnxmi.data.splits import HELD_BACK, HELD_BACK_TO_SEARCH
from onnxmi.model import Model
from onnxmi.pruning.cost_search import MAX_LIMIT_CORRECTIONS
from onnxmi.pruning.hints import Hint, uncut_weights
from onnxmi.pruning.loss_search import N_FULL_TRIALS, N_QUICK_TRIALS
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import PruningSession, start_session
from onnxmi.pruning.sizing import N_PRICING_SAMPLES
from onnxmi.pruning.stages import stages_of_prune
from onnxmi.runtime.session import limited
from onnxmi.runtime.timing import measure_latency

TIMED_SAMPLES = 32  # samples of the run that is timed
STATISTICS_RUNS = 3  # forward passes that a fit sample takes in the statistics, with their sums
BACKWARD_RUNS = 20  # forward passes that a backward pass and its products with weights take, about
REPAIR_RUNS = 6  # forward passes that a fit sample takes in a repair step by step, with its regressions


@dataclass(frozen=True)
class DryStage:
    """A stage of a run: what it does, and about how long it takes in seconds."""

    name: str
    text: str
    seconds: float


@dataclass(frozen=True, eq=False)
class DryRun:
    """What a run would do.

    Attributes
    ----------
    session : PruningSession
        Its layers, samples and options.
    stages : tuple of DryStage
        In order.
    hints : tuple of Hint
        What could be cut besides.
    """

    session: PruningSession
    stages: tuple[DryStage, ...]
    hints: tuple[Hint, ...]

    @property
    def seconds(self) -> float:
        """About how long the run takes."""
        return sum(stage.seconds for stage in self.stages)


def rehearse(model: Model, calibration: CalibrationLike, options: PruneOptions) -> DryRun:
    """Look a model and its samples through as a run does, time one batch, and add up what the stages would run.

    Raises
    ------
    OnnxmiError
        If the run would be refused before it begins.
    """
    with limited(options.threads):
        held_back = HELD_BACK if options.budget.drop is None else HELD_BACK_TO_SEARCH
        session = start_session(model, calibration, options, held_back, split_tables="embedding" in options.cut)
        stages = tuple(_stages(session, _sample_seconds(session)))
        return DryRun(session, stages, uncut_weights(session, session.dense_cost.size))


def _sample_seconds(session: PruningSession) -> float:
    """Return the time of the original for a sample of a batch, s."""
    samples = session.split.fit[:TIMED_SAMPLES]
    _, feeds = next(iter(session.data.batches(samples, len(samples))))
    (latency,) = measure_latency([session.source.proto], feeds, threads=session.options.threads, runs=6, seconds=1.0)
    return latency.median / 1e3 / len(samples)


def _stages(session: PruningSession, sample: float) -> Iterator[DryStage]:
    for stage in stages_of_prune(session.options):
        if stage.name in _ESTIMATES:
            yield _ESTIMATES[stage.name](session, sample)


def _statistics(session: PruningSession, sample: float) -> DryStage:
    fit = len(session.split.fit)
    return DryStage("statistics", f"{fit:,} samples, one pass", STATISTICS_RUNS * fit * sample)


def _damage(session: PruningSession, sample: float) -> DryStage:
    priced = min(len(session.split.fit), N_PRICING_SAMPLES)
    text = f"every size of {len(session.layers)} layers, from {priced} samples"
    return DryStage("damage", text, BACKWARD_RUNS * priced * sample)


def _latency(_session: PruningSession, sample: float) -> DryStage:
    return DryStage("latency", f"{PROBES} random cuts, timed", PROBES * min(RUNS * sample, PROBE_SECONDS))


def _trials(session: PruningSession, sample: float) -> DryStage:
    count, text = _models_tried(session)
    return DryStage("trials", text, count * REPAIR_RUNS * len(session.split.fit) * sample)


def _models_tried(session: PruningSession) -> tuple[int, str]:
    budget = session.options.budget
    if budget.keep is not None:
        return 1, f"one cut, {budget.keep:g} of every layer, repaired"
    if budget.searches:
        text = f"up to {N_QUICK_TRIALS + N_FULL_TRIALS} models, {N_FULL_TRIALS} of them repaired step by step"
        return N_FULL_TRIALS, text
    return 2, f"one to three models, after up to {MAX_LIMIT_CORRECTIONS} corrections of the limits"


_ESTIMATES: Mapping[str, Callable[[PruningSession, float], DryStage]] = {
    "capture": _statistics,
    "price": _damage,
    "time": _latency,
    "select": _trials,
    "search": _trials,
}
"""The stages of a run that take time, and what is estimated of each from the time of a sample, s."""
