"""The stages in order: the only place that sequences them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnxmi.budget.goals import COSTS, Goal, Kind, option
from onnxmi.budget.size_grid import kept_count, uniform
from onnxmi.data.sources import CalibrationLike
from onnxmi.data.splits import HELD_BACK, HELD_BACK_TO_SEARCH
from onnxmi.errors import CheckError, NothingToPruneError, UsageError
from onnxmi.evaluation.cautions import cautions
from onnxmi.evaluation.judgement import Judgement, judge
from onnxmi.evaluation.quality import quality_of
from onnxmi.graph.cost import Cost
from onnxmi.graph.plan import Plan
from onnxmi.model import Model
from onnxmi.model.load import proto_digest
from onnxmi.model.mapped import with_values_inside
from onnxmi.pruning.apply_plan import AnyPath, given_plan
from onnxmi.pruning.collect import asked_about, given_statistics, measured_notes
from onnxmi.pruning.contributions import Contribution, contributions
from onnxmi.pruning.cost_search import SearchResult, satisfy_cost_budgets
from onnxmi.pruning.evaluation import evaluate, read_evaluation, samples_name
from onnxmi.pruning.execute import execute_plan, in_8_bits, make_plan
from onnxmi.pruning.floor import require_outputs, require_samples
from onnxmi.pruning.hints import uncut_weights
from onnxmi.pruning.loss_search import SEARCHED, search_quality_budget
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.outcome import Outcome
from onnxmi.pruning.precision_choice import choose_for_search, choose_precision
from onnxmi.pruning.run_cache import RunCache
from onnxmi.pruning.session import PruningSession, require_costs, session_statistics, start_session
from onnxmi.pruning.sizing import sizing_problem
from onnxmi.pruning.sweep import TradeOff, trade_off
from onnxmi.quantization.quantize import replay, require_small
from onnxmi.runtime.session import limited
from onnxmi.runtime.timing import Latency
from onnxmi.selection.top_down import unscored
from onnxmi.statistics.statistics_file import StatisticsFile
from onnxmi.transforms.analysis import ModelLike, as_model
from onnxmi.transforms.cut import Cut
from onnxmi.typing import Progress, silent
from onnxmi.verification.checks import check_result, require_passed

_ONE_SAMPLE = "with a single sample there are no test samples, so the quality is not measured"


def prune(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    *,
    plan: Plan | AnyPath | None = None,
    statistics: StatisticsFile | AnyPath | None = None,
    evaluation: CalibrationLike | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Make a model smaller: score, select top-down, cut, repair and verify.

    Parameters
    ----------
    model : path, onnx.ModelProto or Model
        The source; never changed.
    calibration : path of an .npz file, mapping of arrays, or Calibration
        Sample inputs, named as the graph's inputs, samples on the first axis; `labels` is optional.
    options : PruneOptions, optional
        See there.
    plan : Plan or path, optional
        Cut what this plan says instead of scoring and selecting.
    statistics : StatisticsFile or path, optional
        Use what `collect` measured instead of measuring it now.
    evaluation : optional
        Samples as `calibration` takes them, on which the result is reported, too; nothing is chosen on them.
    progress : callable(stage, done, total), optional
        Called during long work.

    Returns
    -------
    Outcome
        Its model passed every check.

    Raises
    ------
    OnnxmiError
        See `onnxmi.errors`.
    """
    options = options or PruneOptions()
    options.check()
    with limited(options.threads):
        source = as_model(model)
        data = None if evaluation is None else read_evaluation(source, evaluation, options)
        outcome = _prune(source, calibration, options, plan, statistics, progress)
        if data is None or evaluation is None:
            return outcome
        found = evaluate(source, outcome.proto, data, samples_name(evaluation), options)
        return replace(outcome, evaluation=found)


def _prune(
    source: Model,
    calibration: CalibrationLike,
    options: PruneOptions,
    plan: Plan | AnyPath | None,
    statistics: StatisticsFile | AnyPath | None,
    progress: Progress,
) -> Outcome:
    given = None if plan is None else given_plan(plan, source)
    stats = None if statistics is None else given_statistics(statistics, source, options)
    decides = given is None and stats is None and options.budget.drop is not None
    held_back = HELD_BACK_TO_SEARCH if decides else HELD_BACK
    session = start_session(source, calibration, options, held_back, split_tables=_splits(options, given))
    _require_work(session, given)
    if given is None:
        require_samples(session)
    session = _measured(session, stats, progress, selects=given is None)
    result = _search(session, given, progress)
    return _report(session, result, selected=given is None)


def _measured(
    session: PruningSession, given: StatisticsFile | None, progress: Progress, *, selects: bool
) -> PruningSession:
    """Add statistics; given ones are not what the cache knows a run by, so nothing is kept then."""
    cache = session.cache if given is None else RunCache(None)
    return replace(session, measured=session_statistics(session, given, progress, selects=selects), cache=cache)


def _splits(options: PruneOptions, given: Plan | None) -> bool:
    """Whether the width of embedding tables is to be cut, or was when a plan was made."""
    return "embedding" in (options.cut if given is None else given.options.get("cut") or ())


def _search(session: PruningSession, given: Plan | None, progress: Progress) -> SearchResult:
    """Cut as a plan says, every layer alike, or what a budget asks for."""
    budget = session.options.budget
    if given is not None:
        return _follow_plan(session, given, progress)
    if budget.keep is not None:
        return _follow_plan(session, make_plan(session, uniform(session.layers, budget.keep), progress), progress)
    kinds = SEARCHED if budget.searches else {COSTS[name] for name in budget.costs}
    problem = sizing_problem(session, kinds, progress)
    choice = choose_for_search(session, problem, progress)
    session = replace(session, precision=choice.precision)
    if budget.searches:
        assert budget.drop is not None
        result = search_quality_budget(session, problem, budget.drop, progress)
    else:
        result = satisfy_cost_budgets(session, problem, progress)
    return replace(result, notes=(*choice.notes, *result.notes))


def _follow_plan(session: PruningSession, plan: Plan, progress: Progress) -> SearchResult:
    """Cut as a plan says, and quantize as it says, or as the options ask for where it says nothing of that."""
    candidate = execute_plan(session, plan, progress=progress)
    if plan.quantization is not None:
        return SearchResult(replace(candidate, quantized=replay(plan.quantization, candidate.proto)), ())
    if session.options.quantize == "none":
        return SearchResult(candidate, ())
    choice = choose_precision(session, candidate.proto, progress)
    if choice.precision is not None:
        candidate = in_8_bits(replace(session, precision=choice.precision), candidate)
    return SearchResult(candidate, (), notes=choice.notes)


def sweep(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    *,
    by: Kind = "time",
    shares: Sequence[float] | None = None,
    statistics: StatisticsFile | AnyPath | None = None,
    progress: Progress = silent,
) -> TradeOff:
    """Measure the whole trade-off: models at several shares of one cost, from one measurement.

    Parameters
    ----------
    model, calibration, options, statistics, progress
        As for `prune`; nothing may be asked of costs.
    by : str
        What is shared out: size, params, macs or time.
    shares : sequence of float
        Of the original's cost; by default, even steps from there to the least that can be had.

    Raises
    ------
    OnnxmiError
        See `onnxmi.errors`.
    """
    options = options or PruneOptions()
    options.check()
    if options.quantize != "none":
        raise UsageError("a sweep is of float models: expected no --quantize")
    if options.budget.asked:
        raise UsageError("a sweep tries several budgets itself: expected no budget")
    source = as_model(model)
    stats = None if statistics is None else given_statistics(statistics, source, options)
    held_back = HELD_BACK if stats is not None else HELD_BACK_TO_SEARCH
    session = start_session(source, calibration, options, held_back, split_tables=_splits(options, None))
    require_costs(session, {f"--by {by}": by})
    _require_work(session, None)
    with limited(options.threads):
        session = _measured(session, stats, progress, selects=True)
        return trade_off(session, sizing_problem(session, {by}, progress), by, shares, progress)


def _require_work(session: PruningSession, given: Plan | None) -> None:
    """Refuse before the long work what would come to nothing."""
    options, keep = session.options, session.options.keep
    if options.quantize != "none" or (given is not None and given.quantization is not None):
        require_small(session.source.proto)
    require_costs(session, {option(name): COSTS[name] for name in options.budget.costs})
    if given is not None:
        if options.cut or options.skip or options.only:
            raise UsageError("a plan names the layers: cut, skip and only cannot be combined with it")
        if given.quantization is not None and options.quantize != "none":
            raise UsageError("the plan says how to quantize: --quantize cannot be combined with it")
        _ = Cut(session.analysis, given.keeping(session.analysis.graph)).branches  # raises where they cannot go
    elif not session.layers or (keep and all(kept_count(layer, keep) == layer.size for layer in session.layers)):
        raise NothingToPruneError(_nothing(session))


def _nothing(session: PruningSession) -> str:
    graph, keep = session.analysis.graph, session.options.keep
    if graph.layers:
        if session.layers and keep:
            return f"nothing to prune: a share of {keep:g} keeps every unit of each layer"
        return f"nothing to prune: {_unchosen(session)}"
    reasons = "; ".join(f"{f.name} ({f.size}): {f.reason}" for f in graph.frozen[:3])
    reasons = reasons or "no operator contracts over stored weights"
    return f"nothing to prune: the model has no layer that can be cut ({reasons})"


def _unchosen(session: PruningSession) -> str:
    """Say what there would be to cut; kinds alone do not take what a pattern leaves out."""
    named = ", ".join(f"{layer.name} ({layer.size}, {layer.kind})" for layer in session.left_out[:3])
    if session.unseen:
        return f"no compared output depends on {len(session.unseen)} of {len(session.left_out)} layers ({named})"
    if session.idle:
        return (
            f"no sample takes the branches that {len(session.idle)} of {len(session.left_out)} layers are in ({named})"
        )
    kinds = ",".join(sorted({layer.kind for layer in session.left_out}))
    hint = "" if session.options.skip or session.options.only else f"; --cut {kinds} cuts them, too"
    return f"none of the layers was chosen, of {len(session.left_out)} ({named}){hint}"


def _report(session: PruningSession, found: SearchResult, *, selected: bool) -> Outcome:
    """Check the result as a whole, and say what it is worth on samples that nothing was fitted to."""
    options, source, result = session.options, session.source, found.candidate.result
    checks = [*found.candidate.checks, *check_result(source, result, session.some_feeds(session.split.test))]
    require_passed(checks)
    judgement = judge(session.test_set, session.metric, result, every=True)
    if not options.force:
        require_outputs(session, found, judgement.damage)
    goals = tuple(Goal.of_loss(judgement, goal.asked) if goal.name == "max_drop" else goal for goal in found.goals)
    if options.max_drop is not None and not any(goal.name == "max_drop" for goal in goals):
        goals = (*goals, Goal.of_loss(judgement, options.max_drop))
    _require_drop(goals, options)
    steps = contributions(session, found.candidate, judgement, found.latency)
    after = session.cost(found.candidate.proto)
    if steps:
        after = replace(after, size=steps[-1].size)
    latency = _latency(session, found, steps)
    smaller = with_values_inside(result)  # what it refers to goes with the source
    return Outcome(
        proto=smaller,
        digest=proto_digest(smaller),
        plan=found.candidate.plan,
        analysis=session.analysis,
        left_out=session.left_out if selected else (),
        unseen=session.unseen if selected else (),
        idle=session.idle if selected else (),
        before=session.dense_cost,
        after=after,
        quality=None if session.data.count == 1 else quality_of(session.test_set, judgement),
        damage=judgement.damage,
        latency=latency,
        repairs=found.candidate.repairs,
        checks=tuple(checks),
        notes=(*_notes(session, found, judgement, selected=selected), *_slower(session, after, latency)),
        goals=goals,
        trials=found.trials,
        metric=judgement.decisive.metric,
        readings=judgement.readings,
        contributions=steps,
        decisive=judgement.decisive,
        hints=uncut_weights(session, after.size) if selected else (),
    )


def _latency(
    session: PruningSession, found: SearchResult, steps: Sequence[Contribution]
) -> tuple[Latency, Latency] | None:
    """Return the times of the original and of the result: those that a goal was judged by, or measured now."""
    if not session.options.latency:
        return None
    return found.latency or (steps[-1].latency if steps else session.time(found.candidate.result))


def _notes(session: PruningSession, found: SearchResult, judgement: Judgement, *, selected: bool) -> Iterator[str]:
    """Say what the user should know of the samples, the search and the result."""
    yield from session.data.notes
    yield from session.analysis.unused_positions.notes
    yield from measured_notes(session.measured, session.data, session.split)
    if selected:
        yield from _scored_notes(session)
    yield from filter(None, [session.cache.note])
    yield from found.notes
    yield from cautions(session.test_set, judgement, session.options.budget.drop)
    if session.data.count == 1:
        yield _ONE_SAMPLE


def _slower(session: PruningSession, after: Cost, latency: tuple[Latency, Latency] | None) -> Iterator[str]:
    """Warn where a result has less work than the model, and takes longer for it."""
    if latency is None or after.macs >= session.dense_cost.macs:
        return
    was, now = latency
    if now.speedup_interval(was).high < 1:
        share = after.macs / session.dense_cost.macs
        yield (
            f"the result is slower than the model ({now.speedup_over(was):.2f}x) although it has x {share:.2f} of the"
            " multiply-accumulates: its sizes do not suit this processor; --align auto with --macs or --speedup takes"
            " sizes that pay"
        )


def _require_drop(goals: Sequence[Goal], options: PruneOptions) -> None:
    """Refuse what the samples show to lose more than was allowed, though a search had found it within on others."""
    missed = [goal for goal in goals if goal.name == "max_drop" and not goal.met]
    if missed and not options.best_effort:
        raise CheckError(
            f"out of reach: --max-drop {missed[0].asked:g}: the other budgets lose {missed[0].reached:.4f} on"
            " the test samples (use --best-effort to take it)"
        )


def _scored_notes(session: PruningSession) -> list[str]:
    if not session.options.scorer.needs_statistics:
        return []
    analysis, measured = session.analysis, session.measured.fit
    unseen = unscored(analysis, measured, session.layers)
    notes = [
        f"{one.name}: chosen by the norms of its weights: there are no statistics of the operators that read it"
        for one in unseen
    ]
    asked = asked_about(analysis, session.layers)
    unfelt = [linear for linear in asked if linear.key not in measured.sensitivities]
    if unfelt and session.options.sensitivity and session.options.scorer.uses_sensitivity:
        count = f"{len(unfelt)} of {len(asked)} operators"
        notes.append(
            f"no output sensitivity for {count} (an operator without a gradient rule lies after them): their neurons"
            " are weighted equally"
        )
    return notes
