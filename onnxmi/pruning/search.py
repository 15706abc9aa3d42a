"""From a budget to sizes: price the layers once, then allocate, carry out and judge as often as it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

import onnx

from onnxmi.budget.allocate import Limit, SizeOptions, allocate, largest, smallest
from onnxmi.budget.damage_curves import measure_damage_curves, priced_sizes
from onnxmi.budget.goals import COSTS, Budget, Goal, Kind, Trial
from onnxmi.budget.latency_model import keep_first_units
from onnxmi.budget.predicted_damage import predict_damage
from onnxmi.budget.size_grid import candidate_sizes, parse_alignment
from onnxmi.errors import CheckError, ModelError, NothingToPruneError, stage
from onnxmi.evaluation.damage_reference import DamageReference
from onnxmi.graph.channel_graph import LayerId, UnitCounts
from onnxmi.graph.cost import all_shapes
from onnxmi.graph.cost_model import CostModel, byte_pieces, mac_pieces, parameter_pieces
from onnxmi.pruning.collect import capture_options
from onnxmi.pruning.hints import uncut_weights
from onnxmi.pruning.latency_cache import latency_model
from onnxmi.pruning.session import COUNTED, Candidate, PruningSession, execute_plan, make_plan, select_options
from onnxmi.runtime.timing import Latency
from onnxmi.selection.top_down import Ranking, rank_channels
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import Ints, Progress, Samples, silent

N_PRICING_SAMPLES = 128  # samples that prices are measured on, where each has one answer
N_PRICING_ROWS = 1024  # answers that are enough
MIN_PRICING_SAMPLES = 16  # taken however many answers each has
MAX_LIMIT_CORRECTIONS = 6  # of a limit, until what is measured meets what is asked
TARGET_UTILIZATION = 0.96  # share of what was asked that has to be used up, where sizes are fine enough
CORRECTION_MARGIN = 1.002  # by which a limit is tightened further than it was missed
RETRY_MARGIN = 1.02  # by which a limit is tightened after a trial that cannot be used
MAX_ROUNDS = 3  # of the whole, where the repaired model misses what the unrepaired cut met


@dataclass(frozen=True, eq=False)
class SizingProblem:
    """What each layer's sizes cost, in every respect.

    Attributes
    ----------
    menus : mapping
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


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The end of a search.

    Attributes
    ----------
    candidate : Candidate
        The model.
    goals : tuple of Goal
        What was asked for, and reached.
    trials : tuple of Trial
        What was tried on the way.
    notes : tuple of str
        What the user should know.
    problem : SizingProblem or None
        What the search went by, where costs were asked for.
    latency : tuple of two Latency, or None
        Of the source and the model, where a goal was judged by them.
    """

    candidate: Candidate
    goals: tuple[Goal, ...]
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()
    problem: SizingProblem | None = None
    latency: tuple[Latency, Latency] | None = None


@dataclass(frozen=True, eq=False)
class _Measured:
    """What a model costs beside what is asked, and the times that say so if any were asked for."""

    goals: tuple[Goal, ...]
    latency: tuple[Latency, Latency] | None = None

    @property
    def met(self) -> bool:
        return all(goal.met for goal in self.goals)


@stage("price")
def sizing_problem(session: PruningSession, kinds: Iterable[Kind], progress: Progress = silent) -> SizingProblem:
    """Measure what every layer's sizes do to the outputs, and model what they cost."""
    found, options = session.analysis, session.options
    alignment = parse_alignment(options.align)
    sizes = {layer.id: candidate_sizes(found, layer, alignment) for layer in session.layers}
    if not Cut(
        found, keep_first_units(session.layers, {layer: int(offered[0]) for layer, offered in sizes.items()})
    ).is_possible:
        sizes = {layer: offered[offered > 0] for layer, offered in sizes.items()}  # each could go, but not all of them
    rankings = rank_channels(found, session.measured.fit, session.layers, select_options(options), progress)
    outputs = session.outputs
    batches = session.data.packed(_priced(session), options.batch_size)
    ruler = DamageReference.of(found.model, outputs.yardstick, batches, outputs.masks, options.threads)
    statistics = session.measured if options.repair else None
    predicted = _predicted(session, rankings, sizes, progress)
    curves = measure_damage_curves(found, rankings, sizes, statistics, ruler, options.threads, progress, predicted)
    size_options = {layer: SizeOptions(offered, curves[layer].at(offered)) for layer, offered in sizes.items()}
    wanted = set(kinds)
    costs = {kind: _counted(session, kind) for kind in wanted - {"time"}}
    if "time" in wanted:
        costs["time"] = latency_model(session, sizes, progress).cost
    return SizingProblem(
        size_options, costs, {kind: cost.total({}) * _spared(session, kind) for kind, cost in costs.items()}
    )


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
    told = [rows for view, rows in zip(yardstick.views, yardstick.rows, strict=True) if view.kind != "state"]
    each = min(told, default=len(fit)) / len(fit)
    return fit[: min(max(ceil(N_PRICING_ROWS / max(each, 1.0)), MIN_PRICING_SAMPLES), N_PRICING_SAMPLES)]


def _spared(session: PruningSession, kind: Kind) -> float:
    """By what factor the source costs more than the same model without positions that nothing reads."""
    if session.model is session.source:
        return 1.0
    if kind == "time":
        was, now = session.time(session.model.proto)
        return now.speedup_over(was)
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


# -- costs ------------------------------------------------------------------------------------------------------------


@stage("search")
def satisfy_cost_budgets(session: PruningSession, problem: SizingProblem, progress: Progress = silent) -> SearchResult:
    """Find the least damage at which everything that was asked of costs holds.

    Sizes and work are exact; times are predicted, and what is predicted is corrected by what is measured.

    Raises
    ------
    CheckError
        If a budget is out of reach and the nearest was not asked for.
    NothingToPruneError
        If the source meets it already.
    """
    budget = session.options.budget
    limit_scale = dict.fromkeys(budget.costs, 1.0)
    dropped: list[str] = []
    for _ in range(MAX_ROUNDS):
        counts = _closest(session, problem, limit_scale)
        if counts is None:
            break
        try:
            candidate = execute_plan(session, make_plan(session, counts, progress), progress=progress)
        except (CheckError, ModelError) as error:  # one trial that cannot be used does not end the search
            dropped.append(f"a trial was dropped: {error}")
            limit_scale = {name: by * RETRY_MARGIN for name, by in limit_scale.items()}
            continue
        found = _measure(session, budget, candidate.proto)
        if found.met:
            return SearchResult(candidate, found.goals, notes=tuple(dropped), problem=problem, latency=found.latency)
        for goal in found.goals:  # repair adds a few biases, and times are never measured twice alike
            limit_scale[goal.name] *= max(1.0, goal.violation * CORRECTION_MARGIN)
    return _nearest(session, problem, progress)


def _closest(session: PruningSession, problem: SizingProblem, limit_scale: dict[str, float]) -> UnitCounts | None:
    """Find sizes at which plain cuts meet what was asked, and exceed it by as little as the sizes allow.

    `tightened` is by how much limits are below what was asked; it is corrected by what is measured.
    """
    budget = session.options.budget
    bounds = {name: _bound(session, problem, name, budget.asked[name]) for name in budget.costs}
    best: tuple[float, UnitCounts] | None = None
    tried: list[UnitCounts] = []
    while len(tried) < MAX_LIMIT_CORRECTIONS:
        limits = [Limit(problem.costs[COSTS[name]], most / limit_scale[name]) for name, most in bounds.items()]
        counts = allocate(problem.size_options, limits)
        if counts is None or counts in tried:
            break
        tried.append(counts)
        uncut = counts == largest(problem.size_options) and session.model is session.source
        if uncut and "speedup" in budget.costs:  # no model is faster than itself, whatever two measurements say
            break
        found = _measure(session, budget, plain(session, counts))
        if uncut and found.met:
            raise NothingToPruneError("nothing to prune: the model meets the budget as it is")
        utilization = max(goal.violation for goal in found.goals)
        if found.met and (best is None or utilization > best[0]):
            best = utilization, counts
        if best is not None and best[0] >= TARGET_UTILIZATION:
            break
        for goal in found.goals:
            measured = COSTS[goal.name] == "time"
            limit_scale[goal.name] *= goal.violation if measured else max(1.0, goal.violation * CORRECTION_MARGIN)
    return None if best is None else best[1]


def _nearest(session: PruningSession, problem: SizingProblem, progress: Progress) -> SearchResult:
    """Fall back on the smallest sizes, or say what the limit is."""
    budget = session.options.budget
    plan = make_plan(session, smallest(problem.size_options), progress)
    candidate = execute_plan(session, plan, progress=progress)
    found = _measure(session, budget, candidate.proto)
    missed = [goal for goal in found.goals if not goal.met]
    if missed and not session.options.best_effort:
        nearest = "; ".join(f"{goal.asked_text}: the nearest is {goal.reached_text}" for goal in missed)
        more = "".join(f"; {hint.text}" for hint in uncut_weights(session, session.cost(candidate.proto).size))
        raise CheckError(f"out of reach: {nearest} (use --best-effort to take it){more}")
    return SearchResult(candidate, found.goals, problem=problem, latency=found.latency)


def _bound(session: PruningSession, problem: SizingProblem, name: str, asked: float) -> float:
    """Turn what is asked into the most that the model of the cost may say."""
    whole = problem.source[COSTS[name]]
    if name == "speedup":
        return whole / asked
    return asked if name in ("max_size", "max_latency") else whole * asked


def plain(session: PruningSession, counts: UnitCounts) -> onnx.ModelProto:
    """Cut to sizes without choosing or repairing: that costs what the final model does, but for some biases."""
    return prune_channels(Cut(session.analysis, keep_first_units(session.layers, counts)))


def _measure(session: PruningSession, budget: Budget, proto: onnx.ModelProto) -> _Measured:
    """Measure what a model costs beside what is asked."""
    asked = {name: budget.asked[name] for name in budget.costs}
    if not asked:
        return _Measured(())
    before, after = session.dense_cost, session.cost(proto)
    reached: dict[str, float] = {
        "max_size": after.size,
        "params": after.parameters / before.parameters,
        "macs": after.macs / max(before.macs, 1),
    }
    latency = session.time(proto) if any(COSTS[name] == "time" for name in asked) else None
    if latency is not None:
        was, now = latency
        reached |= {"speedup": now.speedup_over(was), "max_latency": now.median}
    return _Measured(tuple(Goal.of(name, value, reached[name]) for name, value in asked.items()), latency)
