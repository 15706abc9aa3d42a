"""What each layer's sizes cost: the damage to the outputs, and every cost that a budget may limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from time import monotonic

from onnxmi.budget.allocate import SizeOptions, smallest
from onnxmi.budget.damage_curves import DamageCurve, measure_damage_curves, priced_sizes
from onnxmi.budget.goals import Kind
from onnxmi.budget.latency_model import keep_first_units
from onnxmi.budget.predicted_damage import predict_damage
from onnxmi.budget.size_grid import candidate_sizes, parse_alignment
from onnxmi.errors import stage
from onnxmi.evaluation.damage_reference import DamageReference
from onnxmi.graph.channel_graph import LayerId
from onnxmi.graph.cost import all_shapes
from onnxmi.graph.cost_model import CostModel, byte_pieces, mac_pieces, parameter_pieces
from onnxmi.pruning.collect import capture_options
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


@stage("price")
def sizing_problem(session: PruningSession, kinds: Iterable[Kind], progress: Progress = silent) -> SizingProblem:
    """Measure what every layer's sizes do to the outputs, and model what they cost."""
    analysis, options = session.analysis, session.options
    alignment = parse_alignment(options.align)
    sizes = {layer.id: candidate_sizes(analysis, layer, alignment) for layer in session.layers}
    if not Cut(
        analysis, keep_first_units(session.layers, {layer: int(offered[0]) for layer, offered in sizes.items()})
    ).is_possible:
        sizes = {layer: offered[offered > 0] for layer, offered in sizes.items()}  # each could go, but not all of them
    curves = _damage_curves(session, sizes, progress)
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


def _damage_curves(
    session: PruningSession, sizes: Mapping[LayerId, Ints], progress: Progress
) -> dict[LayerId, DamageCurve]:
    """Measure or predict the damage curves that no earlier run has, and keep each for the next run."""
    analysis, options, outputs = session.analysis, session.options, session.outputs
    curves = session.cache.curves({layer: priced_sizes(own) for layer, own in sizes.items()})
    missing = [layer for layer in session.layers if layer.id not in curves]
    if not missing:
        return curves
    rankings = rank_channels(analysis, session.measured.fit, missing, select_options(options), progress)
    batches = session.data.packed(_priced(session), options.batch_size)
    ruler = DamageReference.of(analysis.model, outputs.yardstick, batches, outputs.masks, options.threads)
    statistics = session.measured if options.repair else None
    predicted = _predicted(session, rankings, sizes, progress)
    kept_at = monotonic()
    for layer, curve in measure_damage_curves(
        analysis, rankings, sizes, statistics, ruler, options.threads, progress, predicted
    ):
        curves[layer] = curve
        if monotonic() > kept_at + SECONDS_BETWEEN_WRITES:
            session.cache.keep_curves(curves)
            kept_at = monotonic()
    session.cache.keep_curves(curves)
    return curves


def _predicted(
    session: PruningSession, rankings: Mapping[LayerId, Ranking], sizes: Mapping[LayerId, Ints], progress: Progress
) -> dict[LayerId, dict[int, float]]:
    """Predict the damage of sizes, where consumers are refitted: only that keeps the change of weights small."""
    if not session.options.repair:
        return {}
    offered = {layer: priced_sizes(own) for layer, own in sizes.items()}
    fit, yardstick, how = session.split.fit, session.outputs.yardstick, capture_options(session.options)
    return predict_damage(
        session.analysis, rankings, offered, session.measured.fit, session.data, fit, yardstick, how, progress
    )


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
