"""The stages in order: the only place that sequences them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from onnxmi.budget.goals import COSTS, Kind
from onnxmi.budget.size_grid import uniform
from onnxmi.data.sources import CalibrationLike
from onnxmi.data.splits import HELD_BACK, HELD_BACK_TO_SEARCH
from onnxmi.errors import UsageError
from onnxmi.execution.choose import Workers
from onnxmi.graph.plan import Plan
from onnxmi.model import Model
from onnxmi.pruning.apply_plan import given_plan
from onnxmi.pruning.collect import given_statistics
from onnxmi.pruning.cost_search import SearchResult, satisfy_cost_budgets
from onnxmi.pruning.evaluation import evaluate, read_evaluation, samples_name
from onnxmi.pruning.execute import execute_plan, in_8_bits, make_plan
from onnxmi.pruning.final_report import final_report
from onnxmi.pruning.floor import require_samples
from onnxmi.pruning.loss_search import SEARCHED, judged_trial, search_quality_budget
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.outcome import Outcome
from onnxmi.pruning.parallel_curves import CurvesByWorkers
from onnxmi.pruning.parallel_trials import judge_points, tried
from onnxmi.pruning.precision_choice import choose_for_search, choose_precision
from onnxmi.pruning.refuse_early import require_work
from onnxmi.pruning.run_cache import RunCache
from onnxmi.pruning.session import PruningSession, require_costs, session_statistics, start_session
from onnxmi.pruning.shared_session import ParallelRun
from onnxmi.pruning.sizing import HERE, SizingProblem, sizing_problem, with_times
from onnxmi.pruning.sweep import TradeOff, judge_here, trade_off
from onnxmi.quantization.quantize import replay
from onnxmi.runtime.session import limited
from onnxmi.statistics.statistics_file import StatisticsFile
from onnxmi.transforms.analysis import ModelLike, as_model
from onnxmi.typing import AnyPath, Progress, silent


def prune(
    model: ModelLike,
    calibration: CalibrationLike,
    options: PruneOptions | None = None,
    *,
    plan: Plan | AnyPath | None = None,
    statistics: StatisticsFile | AnyPath | None = None,
    evaluation: CalibrationLike | None = None,
    progress: Progress = silent,
    workers: Workers | None = None,
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
    workers : Workers, optional
        Who measures the statistics, in shards.

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
        outcome = _prune(source, calibration, options, plan, statistics, progress, workers)
        if data is None or evaluation is None:
            return outcome
        lost = evaluate(source, outcome.proto, data, samples_name(evaluation), options)
        return replace(outcome, evaluation=lost)


def _prune(
    source: Model,
    calibration: CalibrationLike,
    options: PruneOptions,
    plan: Plan | AnyPath | None,
    statistics: StatisticsFile | AnyPath | None,
    progress: Progress,
    workers: Workers | None,
) -> Outcome:
    given = None if plan is None else given_plan(plan, source)
    stats = None if statistics is None else given_statistics(statistics, source, options)
    decides = given is None and stats is None and options.budget.drop is not None
    held_back = HELD_BACK_TO_SEARCH if decides else HELD_BACK
    session = start_session(source, calibration, options, held_back, split_tables=_splits(options, given), given=given)
    require_work(session, given)
    if given is None:
        require_samples(session)
    with _parallel_run(workers, calibration, held_back, split_tables=_splits(options, given)) as run:
        session = _measured(session, stats, progress, run, selects=given is None)
        result = _search(session, given, progress, run)
        progress("verify", 0, 1)
        return final_report(session, result, selected=given is None)


@contextmanager
def _parallel_run(
    workers: Workers | None, calibration: CalibrationLike, held_back: float, *, split_tables: bool
) -> Iterator[ParallelRun | None]:
    """Yield what a run shares with workers; None where there are none."""
    if workers is None:
        yield None
        return
    with ParallelRun(workers, calibration, held_back, split_tables=split_tables) as run:
        yield run


def _measured(
    session: PruningSession,
    given: StatisticsFile | None,
    progress: Progress,
    run: ParallelRun | None,
    *,
    selects: bool,
) -> PruningSession:
    """Add statistics; given ones are not what the cache knows a run by, so nothing is kept then."""
    cache = session.cache if given is None else RunCache(None)
    session = session if run is None else run.timed(session)
    if given is None and run is not None:
        given = run.measured(session, progress, selects=selects)
    return replace(session, measured=session_statistics(session, given, progress, selects=selects), cache=cache)


def _splits(options: PruneOptions, given: Plan | None) -> bool:
    """Whether the width of embedding tables is to be cut, or was when a plan was made."""
    return "embedding" in (options.cut if given is None else given.options.get("cut") or ())


def _search(session: PruningSession, given: Plan | None, progress: Progress, run: ParallelRun | None) -> SearchResult:
    """Cut as a plan says, every layer alike, or what a budget asks for."""
    budget = session.options.budget
    if given is not None:
        return _follow_plan(session, given, progress)
    if budget.keep is not None:
        return _follow_plan(session, make_plan(session, uniform(session.layers, budget.keep), progress), progress)
    kinds = set(SEARCHED) if budget.searches else {COSTS[name] for name in budget.costs}
    session, problem, notes = _priced(session, kinds, progress, run)
    if budget.searches:
        assert budget.drop is not None
        judge_trial = judged_trial if run is None else partial(tried, run)
        result = search_quality_budget(session, problem, budget.drop, progress, judge_trial)
    else:
        result = satisfy_cost_budgets(session, problem, progress)
    return replace(result, notes=(*notes, *result.notes))


def _priced(
    session: PruningSession, kinds: set[Kind], progress: Progress, run: ParallelRun | None
) -> tuple[PruningSession, SizingProblem, tuple[str, ...]]:
    """Price the sizes of layers, and choose how every cut is quantized; return notes on that, too."""
    maker = HERE if run is None else CurvesByWorkers(run)
    if session.options.quantize == "none":
        return session, sizing_problem(session, kinds, progress, maker), ()
    problem = sizing_problem(session, {"macs", *kinds} - {"time"}, progress, maker)
    choice = choose_for_search(session, problem, kinds, progress)
    session = replace(session, precision=choice.precision)
    if "time" in kinds:  # of files of the precision that was chosen
        problem = with_times(session, problem, progress)
    return session, problem, choice.notes


def _follow_plan(session: PruningSession, plan: Plan, progress: Progress) -> SearchResult:
    """Cut as a plan says, and quantize as it says, or as the options ask for where it says nothing of that."""
    candidate = execute_plan(session, plan, progress=progress)
    if plan.quantization is not None:
        quantized = replay(plan.quantization, candidate.proto, session.rounding)
        return SearchResult(replace(candidate, quantized=quantized), ())
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
    workers: Workers | None = None,
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
    workers : Workers, optional
        Who measures the statistics and makes the models; times are measured here.

    Raises
    ------
    OnnxmiError
        See `onnxmi.errors`.
    """
    options = options or PruneOptions()
    options.check()
    if options.budget.asked:
        raise UsageError("a sweep tries several budgets itself: expected no budget")
    source = as_model(model)
    stats = None if statistics is None else given_statistics(statistics, source, options)
    held_back = HELD_BACK if stats is not None else HELD_BACK_TO_SEARCH
    session = start_session(source, calibration, options, held_back, split_tables=_splits(options, None))
    require_costs(session, {f"--by {by}": by})
    require_work(session, None)
    splits = _splits(options, None)
    with limited(options.threads), _parallel_run(workers, calibration, held_back, split_tables=splits) as run:
        session = _measured(session, stats, progress, run, selects=True)
        session, problem, notes = _priced(session, {by}, progress, run)
        judge_all = judge_here if run is None else partial(judge_points, run)
        curve = trade_off(session, problem, by, shares, progress, judge_all)
        timed = filter(None, [session.stopwatch.note])
        return replace(curve, notes=(*curve.notes, *notes, *timed))
