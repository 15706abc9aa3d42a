"""What each layer's sizes cost: the damage to the outputs, and every cost that a budget may limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from time import monotonic
from typing import Protocol

from onnxmi.budget.allocate import SizeOptions, smallest
from onnxmi.budget.damage_curves import DamageCurve, measure_damage_curves, priced_sizes
from onnxmi.budget.goals import Kind
from onnxmi.budget.latency_model import keep_first_units
from onnxmi.budget.predicted_damage import predict_damage
from onnxmi.budget.size_grid import candidate_sizes, parse_alignment
from onnxmi.errors import stage
from onnxmi.evaluation.damage_reference import DamageReference
from onnxmi.graph.channel_graph import Layer, LayerId
from onnxmi.graph.cost import all_shapes
from onnxmi.graph.cost_model import CostModel, byte_pieces, mac_pieces, parameter_pieces
from onnxmi.pruning.execute import select_options
from onnxmi.pruning.latency_cache import latency_model
from onnxmi.pruning.session import COUNTED, PruningSession
from onnxmi.selection.top_down import Ranking, rank_channels
from onnxmi.transforms.cut import Cut
from onnxmi.typing import Ints, Progress, Samples, silent

N_PRICING_SAMPLES = 128  # samples that prices are measured on, where each has one answer
N_PRICING_ROWS = 1024  # answers that are enough
SECONDS_BETWEEN_WRITES = 5.0  # of damage curves, so that an interrupted run loses no more
MIN_PRICING_SAMPLES = 16  # taken however many answers each has
N_NOTHING_SAMPLES = 32  # that the damage of a layer's absence is measured on: much is off, and few samples tell it


@dataclass(frozen=True, eq=False)
class SizingProblem:
    """What each layer's sizes cost, in every respect.

    Attributes
    ----------
    size_options : mapping
        Layer id -> its sizes and their damage.
    costs : mapping
        Kind of cost -> its model.
    source : mapping
        Kind of cost -> that of the source, in the same unit.
    """

    size_options: Mapping[LayerId, SizeOptions]
    costs: Mapping[Kind, CostModel]
    source: Mapping[Kind, float]

    def least(self, kind: Kind) -> float:
        """Share of a cost that is left at the smallest sizes."""
        whole = self.source[kind]
        return self.costs[kind].total(smallest(self.size_options)) / whole if whole else 1.0


Rankings = Mapping[LayerId, Ranking]
"""Layer id -> its units in the order of their worth."""

Predicted = Mapping[LayerId, Mapping[int, float]]
"""Layer id -> size -> damage, where that need not be measured."""


class CurveMaker(Protocol):
    """Ranks units and measures damage curves: this process, or workers."""

    def rank(self, session: PruningSession, layers: Sequence[Layer], progress: Progress) -> Rankings:
        """Rank the units of each layer."""

    def measure(
        self, session: PruningSession, rankings: Rankings, predicted: Predicted, progress: Progress
    ) -> Iterator[tuple[LayerId, DamageCurve]]:
        """Yield the damage curve of each of these layers, in any order."""


class Here:
    """Does it in this process."""

    def rank(self, session: PruningSession, layers: Sequence[Layer], progress: Progress) -> Rankings:
        """Rank the units of each layer."""
        return ranked(session, layers, progress)

    def measure(
        self, session: PruningSession, rankings: Rankings, predicted: Predicted, progress: Progress
    ) -> Iterator[tuple[LayerId, DamageCurve]]:
        """Yield the damage curve of each layer: those that are predicted for the most part first."""
        return measured_curves(session, rankings, predicted, progress, damage_reference)


HERE = Here()


@stage("price")
def sizing_problem(
    session: PruningSession, kinds: Iterable[Kind], progress: Progress = silent, maker: CurveMaker = HERE
) -> SizingProblem:
    """Measure what every layer's sizes do to the outputs, and model what they cost."""
    sizes = offered_sizes(session)
    curves = _damage_curves(session, sizes, progress, maker)
    size_options = {layer: SizeOptions(offered, curves[layer].at(offered)) for layer, offered in sizes.items()}
    limited = set(kinds)
    costs = {kind: _counted(session, kind) for kind in limited - {"time"}}
    problem = SizingProblem(
        size_options, costs, {kind: cost.total({}) * _spared(session, kind) for kind, cost in costs.items()}
    )
    return with_times(session, problem, progress) if "time" in limited else problem


def with_times(session: PruningSession, problem: SizingProblem, progress: Progress = silent) -> SizingProblem:
    """Add what sizes cost in time: of 8-bit files where the session quantizes every cut."""
    sizes = {layer: options.sizes for layer, options in problem.size_options.items()}
    cost = latency_model(session, sizes, progress).cost
    whole = cost.total({}) * _spared(session, "time")
    return replace(problem, costs={**problem.costs, "time": cost}, source={**problem.source, "time": whole})


def offered_sizes(session: PruningSession) -> dict[LayerId, Ints]:
    """Return the sizes that each layer may be cut to, ascending, the last its own."""
    analysis, alignment = session.analysis, parse_alignment(session.options.align)
    sizes = {layer.id: candidate_sizes(analysis, layer, alignment) for layer in session.layers}
    least = {layer: int(offered[0]) for layer, offered in sizes.items()}
    if Cut(analysis, keep_first_units(session.layers, least)).is_possible:
        return sizes
    return {layer: offered[offered > 0] for layer, offered in sizes.items()}  # each could go, but not all of them


def _damage_curves(
    session: PruningSession, sizes: Mapping[LayerId, Ints], progress: Progress, maker: CurveMaker
) -> dict[LayerId, DamageCurve]:
    """Measure or predict the damage curves that no earlier run has, and keep each for the next run."""
    curves = session.cache.curves({layer: priced_sizes(own) for layer, own in sizes.items()})
    missing = [layer for layer in session.layers if layer.id not in curves]
    if not missing:
        return curves
    rankings = maker.rank(session, missing, progress)
    predicted = _predicted(session, rankings, sizes, progress)
    kept_at = monotonic()
    for layer, curve in maker.measure(session, rankings, predicted, progress):
        curves[layer] = curve
        if monotonic() > kept_at + SECONDS_BETWEEN_WRITES:
            session.cache.keep_curves(curves)
            kept_at = monotonic()
    session.cache.keep_curves(curves)
    return curves


def ranked(session: PruningSession, layers: Sequence[Layer], progress: Progress) -> dict[LayerId, Ranking]:
    """Rank the units of each layer in this process."""
    options = select_options(session.options)
    return rank_channels(session.analysis, session.measured.fit, layers, options, progress)


def damage_reference(session: PruningSession, most: int = N_PRICING_SAMPLES) -> DamageReference:
    """Run the original on the samples that damage is measured on, `most` of them."""
    options, outputs = session.options, session.outputs
    batches = session.data.packed(_priced(session)[:most], options.batch_size)
    return DamageReference.of(session.model, outputs.yardstick, batches, outputs.masks, options.threads)


def measured_curves(
    session: PruningSession,
    rankings: Rankings,
    predicted: Predicted,
    progress: Progress,
    reference: Callable[[PruningSession, int], DamageReference],
) -> Iterator[tuple[LayerId, DamageCurve]]:
    """Yield damage curves, measured in this process where they are not predicted."""
    sizes, statistics = offered_sizes(session), session.measured if session.options.repair else None
    done = 0
    progress("price", done, len(rankings))
    for most, layers in (
        (N_NOTHING_SAMPLES, rankings.keys() & predicted),
        (N_PRICING_SAMPLES, rankings.keys() - predicted),
    ):
        if not layers:
            continue
        own = {layer: ranking for layer, ranking in rankings.items() if layer in layers}
        curves = measure_damage_curves(
            session.analysis,
            own,
            sizes,
            statistics,
            reference(session, most),
            session.options.threads,
            predicted=predicted,
        )
        for curve in curves:
            yield curve
            done += 1
            progress("price", done, len(rankings))


def _predicted(
    session: PruningSession, rankings: Rankings, sizes: Mapping[LayerId, Ints], progress: Progress
) -> dict[LayerId, dict[int, float]]:
    """Predict the damage of sizes, where consumers are refitted: only that keeps the change of weights small."""
    if not session.options.repair:
        return {}
    offered = {layer: priced_sizes(own) for layer, own in sizes.items()}
    way, fit = session.way_back(), session.split.fit
    return predict_damage(way, rankings, offered, session.measured.fit, fit, session.row_squares, progress)


def _priced(session: PruningSession) -> Samples:
    """Return the samples to measure prices on: fewer where each has many answers, as maps and boxes have."""
    fit, yardstick = session.split.fit, session.outputs.yardstick
    answers = [rows for view, rows in zip(yardstick.views, yardstick.rows, strict=True) if view.kind != "state"]
    each = min(answers, default=len(fit)) / len(fit)
    return fit[: min(max(ceil(N_PRICING_ROWS / max(each, 1.0)), MIN_PRICING_SAMPLES), N_PRICING_SAMPLES)]


def _spared(session: PruningSession, kind: Kind) -> float:
    """By what factor the source costs more than what is cut, without unused positions; in time, also than 8 bits."""
    if kind == "time" and (session.precision is not None or session.model is not session.source):
        was, now = session.decisive_time(session.as_written(session.model.proto))
        return now.speedup_over(was)
    if session.model is session.source:
        return 1.0
    return COUNTED[kind](session.dense_cost) / max(COUNTED[kind](session.uncut_cost), 1)


def _counted(session: PruningSession, kind: Kind) -> CostModel:
    model, graph = session.model, session.analysis.graph
    layers = [layer.id for layer in session.layers]
    if kind == "params":
        return CostModel.of(parameter_pieces(model.graph, graph), layers)
    if kind == "size":
        return CostModel.of(byte_pieces(model.graph, graph, session.uncut_cost.size), layers)
    one = session.data.one_run(session.split.test)
    return CostModel.of(
        mac_pieces(model.graph, graph, all_shapes(model.graph, model.proto, one), session.data.step or 1), layers
    )
