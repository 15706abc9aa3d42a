"""The end of a run: check the final model as a whole, and say what it is worth on the test samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from onnxmi.budget.goals import Goal
from onnxmi.errors import CheckError, DataError
from onnxmi.evaluation.cautions import cautions
from onnxmi.evaluation.judgement import Judgement, judge
from onnxmi.evaluation.quality import quality_of
from onnxmi.graph.cost import Cost
from onnxmi.model.load import proto_digest
from onnxmi.model.mapped import with_values_inside
from onnxmi.model.narrow_states import narrower_notes
from onnxmi.pruning.changed_answers import changed_answers
from onnxmi.pruning.collect import asked_about, measured_notes
from onnxmi.pruning.contributions import Contribution, contributions
from onnxmi.pruning.cost_search import SearchResult
from onnxmi.pruning.floor import require_outputs
from onnxmi.pruning.hints import uncut_weights
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.outcome import Outcome
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.timings import with_timings
from onnxmi.runtime.memory import process_peak
from onnxmi.runtime.timing import Latency
from onnxmi.selection.top_down import unscored
from onnxmi.verification.checks import check_result, require_passed

_ONE_SAMPLE = "with a single sample there are no test samples, so the quality is not measured"


def final_report(session: PruningSession, result: SearchResult, *, selected: bool) -> Outcome:
    """Check the result as a whole, and say what it is worth on samples that nothing was fitted to."""
    options, source, proto = session.options, session.source, result.candidate.result
    checks = [*result.candidate.checks, *check_result(source, proto, session.some_feeds(session.split.test))]
    require_passed(checks)
    judgement = judge(session.test_set, session.metric, proto, every=True)
    if not options.force:
        require_outputs(session, result, judgement.damage)
    goals = tuple(Goal.of_loss(judgement, goal.asked) if goal.name == "max_drop" else goal for goal in result.goals)
    if options.max_drop is not None and not any(goal.name == "max_drop" for goal in goals):
        goals = (*goals, Goal.of_loss(judgement, options.max_drop))
    _require_drop(goals, options)
    steps = contributions(session, result.candidate, judgement, result.latency)
    cut = session.cost(result.candidate.proto)
    after = replace(cut, size=steps[-1].size) if steps else cut
    latency = _latency(session, result, steps)
    whole = with_values_inside(proto)  # what it refers to goes with the source
    notes, peak = _notes(session, result, judgement, selected=selected), _peak_memory()
    return Outcome(
        proto=whole,
        digest=proto_digest(whole),
        plan=with_timings(result.candidate.plan, session.timings),
        analysis=session.analysis,
        left_out=session.left_out if selected else (),
        unseen=session.unseen if selected else (),
        idle=session.idle if selected else (),
        before=session.dense_cost,
        after=after,
        quality=None if session.data.count == 1 else quality_of(session.test_set, judgement),
        damage=judgement.damage,
        latency=latency,
        repairs=result.candidate.repairs,
        checks=tuple(checks),
        notes=(*notes, *_slower(session, after, latency), *_over_memory(options.memory, peak)),
        goals=goals,
        trials=result.trials,
        metric=judgement.decisive.metric,
        readings=judgement.readings,
        contributions=steps,
        decisive=judgement.decisive,
        changed=changed_answers(session.test_set, judgement),
        peak_memory=peak,
        unquantized=with_values_inside(result.candidate.proto) if steps else None,
        hints=uncut_weights(session, cut.size, after.size) if selected else (),
    )


def _over_memory(allowed: int | None, peak: int | None) -> Iterator[str]:
    """Say where a run took more than it was given: one sample and the sums of one operator are the least."""
    if allowed is not None and peak is not None and peak > allowed:
        yield (
            f"this process held {peak / 1e6:,.0f} MB, more than --memory {allowed / 1e6:,.0f} MB: Python, the model,"
            " one sample's tensors and the sums of one operator are the least that a run takes"
        )


def _peak_memory() -> int | None:
    with suppress(DataError):  # not every system tells
        return process_peak()
    return None


def _latency(
    session: PruningSession, result: SearchResult, steps: Sequence[Contribution]
) -> tuple[Latency, Latency] | None:
    """Return the times of the original and of the result: those that a goal was judged by, or measured now."""
    if not session.options.latency:
        return None
    return result.latency or (steps[-1].latency if steps else session.time(result.candidate.result))


def _notes(session: PruningSession, result: SearchResult, judgement: Judgement, *, selected: bool) -> Iterator[str]:
    """Say what the user should know of the samples, the search and the result."""
    yield from session.data.notes
    yield from session.analysis.notes
    yield from measured_notes(session.measured, session.data, session.split)
    if selected:
        yield from _scored_notes(session)
    yield from filter(None, [session.cache.note, session.timings.note, session.stopwatch.note])
    yield from narrower_notes(session.source.proto, result.candidate.result)
    yield from result.notes
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
    if not missed or options.best_effort:
        return
    asked, reached = missed[0].asked, missed[0].reached
    if options.budget.searches:
        raise CheckError(
            f"not within --max-drop {asked:g}: what the search found loses no more on the samples that it was chosen"
            f" on, but {reached:.4f} on the test samples; aim at less (--max-drop {asked / 2:g}), give more samples, or"
            " take it with --best-effort"
        )
    raise CheckError(
        f"out of reach: --max-drop {asked:g}: the other budgets lose {reached:.4f} on the test samples (use"
        " --best-effort to take it)"
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
