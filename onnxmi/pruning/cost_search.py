"""Searching for costs: the least damage at which every cost that was asked for holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from onnxmi.budget.allocate import Limit, allocate, largest, smallest
from onnxmi.budget.goals import COSTS, Goal, Kind, Trial
from onnxmi.budget.latency_model import keep_first_units
from onnxmi.errors import CheckError, ModelError, NothingToPruneError, stage
from onnxmi.graph.channel_graph import UnitCounts
from onnxmi.model.external_data import byte_size
from onnxmi.pruning.execute import Candidate, execute_plan, make_plan
from onnxmi.pruning.hints import uncut_weights
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.sizing import SizingProblem
from onnxmi.runtime.timing import Latency
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import Progress, silent

MAX_LIMIT_CORRECTIONS = 6  # of a limit, until what is measured meets what is asked
TARGET_UTILIZATION = 0.96  # share of what was asked that has to be used up, where sizes are fine enough
CORRECTION_MARGIN = 1.002  # by which a limit is tightened further than it was missed
RETRY_MARGIN = 1.02  # by which a limit is tightened after a trial that cannot be used
MAX_ROUNDS = 5  # of the whole, where the repaired model misses what the unrepaired cut met
HARDER = 1.1  # by which a limit is tightened further once that has not helped: times are noisy
MAX_HARDER = 4  # times, each, before the smallest sizes are all that is left


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
    limit_scale = {name: saved(session, COSTS[name]) for name in budget.costs}
    surcharge = dict.fromkeys(budget.costs, 1.0)
    dropped: list[str] = []
    for number in range(MAX_ROUNDS + MAX_HARDER):
        counts = _closest(session, problem, limit_scale, surcharge)
        if counts is None:
            break
        try:
            candidate = execute_plan(session, make_plan(session, counts, progress), progress=progress)
        except (CheckError, ModelError) as error:  # one trial that cannot be used does not end the search
            dropped.append(f"a trial was dropped: {error}")
            limit_scale = {name: by * RETRY_MARGIN for name, by in limit_scale.items()}
            continue
        measured = _measure(session, candidate.proto, candidate.result)
        if measured.met:
            return SearchResult(
                candidate, measured.goals, notes=tuple(dropped), problem=problem, latency=measured.latency
            )
        for goal in measured.goals:  # repair adds a few biases, and times are never measured twice alike
            if not goal.met:
                surcharge[goal.name] *= goal.violation * (HARDER if number >= MAX_ROUNDS - 1 else CORRECTION_MARGIN)
                limit_scale[goal.name] = _tightened(session, problem, goal, counts, goal.violation)
    return _nearest(session, problem, progress)


def _tightened(
    session: PruningSession, problem: SizingProblem, goal: Goal, counts: UnitCounts, violation: float
) -> float:
    """Return by how much to scale a limit down so that it allows less than a cut that missed it by its violation.

    Where sizes are coarse a cut costs much less than its limit: a limit that is a little lower allows the same cut.
    """
    most = bound(session, problem, goal.name, goal.asked)
    return most / problem.costs[COSTS[goal.name]].total(counts) * violation * CORRECTION_MARGIN


def _closest(
    session: PruningSession, problem: SizingProblem, limit_scale: dict[str, float], surcharge: Mapping[str, float]
) -> UnitCounts | None:
    """Find sizes at which plain cuts meet what was asked, and exceed it by as little as the sizes allow.

    Parameters
    ----------
    limit_scale : dict
        By how much limits are below what was asked; it is corrected by what is measured.
    surcharge : mapping
        What repaired models were measured to cost over their plain cuts, which have to leave room for it.
    """
    budget = session.options.budget
    bounds = {name: bound(session, problem, name, budget.asked[name]) for name in budget.costs}
    best: tuple[float, UnitCounts] | None = None
    tried: list[UnitCounts] = []
    while len(tried) < MAX_LIMIT_CORRECTIONS + (MAX_HARDER if best is None else 0):
        limits = [Limit(problem.costs[COSTS[name]], most / limit_scale[name]) for name, most in bounds.items()]
        counts = allocate(problem.size_options, limits)
        if counts is None or counts in tried:
            break
        tried.append(counts)
        uncut = counts == largest(problem.size_options) and session.model is session.source and not session.precision
        if uncut and "speedup" in budget.costs:  # no model is faster than itself, whatever two measurements say
            break
        cut = plain(session, counts)
        measured = _measure(session, cut, session.as_written(cut))
        if uncut and measured.met:
            raise NothingToPruneError("nothing to prune: the model meets the budget as it is")
        violations = {goal.name: goal.violation * surcharge[goal.name] for goal in measured.goals}
        met = {goal.name: _leaves_room(goal, surcharge[goal.name]) for goal in measured.goals}
        utilization = max(violations.values())
        if all(met.values()) and (best is None or utilization > best[0]):
            best = utilization, counts
        if best is not None and best[0] >= TARGET_UTILIZATION:
            break
        harder = HARDER if len(tried) >= MAX_LIMIT_CORRECTIONS else 1.0
        for goal in measured.goals:
            kind = COSTS[goal.name]
            is_estimate = kind == "time" or (kind == "size" and session.precision is not None)
            if not met[goal.name]:
                limit_scale[goal.name] = harder * _tightened(session, problem, goal, counts, violations[goal.name])
            elif is_estimate:
                limit_scale[goal.name] *= violations[goal.name]
    return None if best is None else best[1]


def _leaves_room(goal: Goal, surcharge: float) -> bool:
    """Whether a plain cut meets a goal by as much as its repair is known to cost."""
    return goal.met if surcharge == 1.0 else goal.violation * surcharge <= 1.0


def _nearest(session: PruningSession, problem: SizingProblem, progress: Progress) -> SearchResult:
    """Fall back on the smallest sizes, or say what the limit is."""
    plan = make_plan(session, smallest(problem.size_options), progress)
    candidate = execute_plan(session, plan, progress=progress)
    measured = _measure(session, candidate.proto, candidate.result)
    missed = [goal for goal in measured.goals if not goal.met]
    if missed and not session.options.best_effort:
        nearest = "; ".join(f"{goal.asked_text}: the nearest is {goal.reached_text}" for goal in missed)
        more = "".join(f"; {hint.text}" for hint in uncut_weights(session, session.cost(candidate.proto).size))
        raise CheckError(f"out of reach: {nearest} (use --best-effort to take it){more}")
    return SearchResult(candidate, measured.goals, problem=problem, latency=measured.latency)


def saved(session: PruningSession, kind: Kind) -> float:
    """Return the share of a cost of the float model that its 8-bit version has, where float models are priced."""
    return session.precision.size if kind == "size" and session.precision is not None else 1.0


def bound(session: PruningSession, problem: SizingProblem, name: str, asked: float) -> float:
    """Turn what is asked into the most that the model of the cost may say."""
    whole = problem.source[COSTS[name]]
    if name == "speedup":
        return whole / asked
    return asked if name in ("max_size", "max_latency") else whole * asked


def plain(session: PruningSession, counts: UnitCounts) -> onnx.ModelProto:
    """Cut to sizes without choosing or repairing: that costs what the final model does, but for some biases."""
    return prune_channels(Cut(session.analysis, keep_first_units(session.layers, counts)))


def _measure(session: PruningSession, proto: onnx.ModelProto, result: onnx.ModelProto) -> _Measured:
    """Measure what a model costs beside what is asked.

    Parameters
    ----------
    proto : onnx.ModelProto
        The float model, whose parameters and MACs count.
    result : onnx.ModelProto
        What is written, whose bytes and time count: its 8-bit version, or the same.
    """
    budget = session.options.budget
    asked = {name: budget.asked[name] for name in budget.costs}
    if not asked:
        return _Measured(())
    before, after = session.dense_cost, session.cost(proto)
    reached: dict[str, float] = {
        "max_size": after.size if result is proto else byte_size(result),
        "params": after.parameters / before.parameters,
        "macs": after.macs / max(before.macs, 1),
    }
    latency = session.decisive_time(result) if any(COSTS[name] == "time" for name in asked) else None
    if latency is not None:
        was, now = latency
        reached |= {"speedup": now.speedup_over(was), "max_latency": now.median}
    return _Measured(tuple(Goal.of(name, value, reached[name]) for name, value in asked.items()), latency)
