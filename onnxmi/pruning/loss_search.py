"""Searching for a loss: the cheapest model whose damage and whose loss of the metric are within what is allowed.

The damage decides, since it falls smoothly with the cost and some dozen samples tell it; the metric, which counts,
has a veto where the samples speak against the promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt

from onnxmi.budget.allocate import Limit, allocate, largest
from onnxmi.budget.goals import Goal, Kind, Trial
from onnxmi.errors import CheckError, ModelError, NothingToPruneError, stage
from onnxmi.evaluation.damage_limits import excess
from onnxmi.evaluation.judgement import Judgement, judge
from onnxmi.graph.channel_graph import LayerId
from onnxmi.pruning.cost_search import SearchResult
from onnxmi.pruning.execute import Candidate, execute_plan, make_plan
from onnxmi.pruning.session import SPELLED, PruningSession
from onnxmi.pruning.sizing import SizingProblem
from onnxmi.typing import Progress, silent

N_SCREENING_TRIALS = 6  # trials with the one-pass repair
N_FULL_TRIALS = 6  # trials with the full one
STEPWISE = "step by step"  # what the full repair is called in a trial
FULL_TRIAL_WORK = 5  # times as long as a trial with the one-pass repair, about
LARGEST_SHARE = 0.95  # of the cost: a smaller cut is not worth a change of files
USED = 0.8  # share of the allowed damage from which on a model is near enough to the limit
AIMED = 0.92  # of the allowed damage, at the next trial
APART = 1.03  # factor between costs of models that are as good as the same
STEEPNESS = -3.0  # of damage against cost, both as logarithms, where nothing has been tried to tell it
STEPS = (0.7, 1.5)  # a trial's cost over the last one's, at least and at most
ONE_PASS = 1.5  # times the damage that the full repair leaves, about, is left by the one-pass repair
VETO = 1.3  # excess of a model whose damage is within, but not its metric
SEARCHED: tuple[Kind, ...] = ("time", "macs", "params")  # what is cut to a loss, the first that sizes change by much
REDUCIBLE = 0.9  # most that may be left of a cost at the smallest sizes for it to be worth cutting


@stage("search")
def search_quality_budget(
    session: PruningSession, problem: SizingProblem, drop: float, progress: Progress = silent
) -> SearchResult:
    """Find the fastest model that loses no more than allowed, on samples that neither it nor the report is fitted to.

    Where the time hardly depends on the sizes, as in very small models, the work or the parameters are cut instead.
    The cost is bisected with the one-pass repair, which costs no forward pass; from there on models with the full
    repair are made at costs that the damage of the last ones points at.

    Parameters
    ----------
    drop : float
        Points of the metric that may be lost; limits of the damage go with it.

    Raises
    ------
    NothingToPruneError
        If the mildest cut loses more, and the nearest was not asked for.
    """
    kind, least = _worth_cutting(problem)
    search = _Search(session, problem, kind, least, drop, progress)
    search.refine(search.screen())
    chosen = search.best
    if chosen is None and (session.precision is not None or session.model is not session.source):
        uncut = search.uncut(execute_plan(session, make_plan(session, largest(problem.size_options), progress)))
        chosen = uncut if uncut.excess <= 1 else None
    if chosen is None and session.options.best_effort:
        chosen = search.least_aggressive
    if chosen is None:
        raise NothingToPruneError(search.refusal())
    notes = list(search.dropped)
    if kind != "time":
        notes.append(f"the time hardly depends on the layers' sizes: {SPELLED[kind]} are cut instead")
    goal = Goal.of("max_drop", drop, chosen.judgement.drop)
    return SearchResult(chosen.candidate, (goal,), tuple(search.trials), tuple(notes))


def _worth_cutting(problem: SizingProblem) -> tuple[Kind, float]:
    """Return the first cost that sizes change by much, and the least share of it that can be had."""
    for kind in SEARCHED:
        least = problem.least(kind)
        if least <= REDUCIBLE:
            return kind, least
    raise NothingToPruneError("nothing to prune: the layers that may be cut make up less than a tenth of the model")


@dataclass(frozen=True, eq=False)
class _TrialModel:
    """A model that was tried.

    Attributes
    ----------
    share : float
        Of the original's cost, that was aimed at.
    counts : mapping
        Layer id -> the units that stay.
    candidate : Candidate
        The model.
    judgement : Judgement
        What it is worth.
    excess : float
        Its damage over what is allowed, with the veto of the metric.
    """

    share: float
    counts: Mapping[LayerId, int]
    candidate: Candidate
    judgement: Judgement
    excess: float


class _Search:
    """The trials of one search, and the best model among them."""

    def __init__(
        self, session: PruningSession, problem: SizingProblem, kind: Kind, least: float, drop: float, progress: Progress
    ) -> None:
        self._session, self._problem, self._drop, self._progress = session, problem, drop, progress
        self._kind = kind
        self._cost, self._whole, self._least = problem.costs[kind], problem.source[kind], max(least, 1e-3)
        self._largest_share = LARGEST_SHARE * self._cost.total({}) / self._whole
        self._screened: list[tuple[float, float]] = []
        self._full: list[_TrialModel] = []
        self.trials: list[Trial] = []
        self.dropped: list[str] = []

    @property
    def best(self) -> _TrialModel | None:
        """The smallest model within what is allowed."""
        return min((trial for trial in self._full if trial.excess <= 1), key=lambda trial: trial.share, default=None)

    @property
    def least_aggressive(self) -> _TrialModel | None:
        """The one that exceeds it least."""
        return min(self._full, key=lambda trial: trial.excess, default=None)

    def uncut(self, candidate: Candidate) -> _TrialModel:
        """Return what leaves out unused positions alone, and is rounded to 8 bits, if anything."""
        judgement = judge(self._session.search_set, self._session.metric, candidate.result)
        return _TrialModel(1.0, {}, candidate, judgement, 0.0 if candidate.quantized is None else self._over(judgement))

    def _over(self, judgement: Judgement) -> float:
        """Return how many times what is allowed is lost: of the damage, with the veto of the metric."""
        over = excess(judgement.damage, self._drop)
        samples = len(self._session.search_set.samples)
        return max(over, VETO) if judgement.contradicts(self._drop, samples) else over

    def screen(self) -> float:
        """Bisect with the one-pass repair; return the smallest share of the cost found within."""
        low, high = log(self._least), log(self._largest_share)
        for _ in range(N_SCREENING_TRIALS):
            middle = (low + high) / 2
            trial = self._try(exp(middle), stepwise=False)
            if trial is not None:
                self._screened.append((middle, trial.excess))
            within = trial is not None and trial.excess <= ONE_PASS
            low, high = (low, middle) if within else (middle, high)
        return exp(high)

    def refine(self, start: float) -> None:
        """Make models with the full repair at costs that the damage of the last one points at."""
        share = start
        within, beyond = inf, 0.0  # shares between which the limit lies
        for _ in range(N_FULL_TRIALS):
            trial = self._try(share, stepwise=True)
            if trial is not None:
                self._full.append(trial)
            if trial is not None and trial.excess <= 1:
                within = min(within, share)
            else:
                beyond = max(beyond, share)
            if (trial is not None and USED <= trial.excess <= 1) or within <= beyond * APART:
                return
            if beyond >= self._largest_share:
                return
            share = self._next(trial, share, within, beyond)

    def _next(self, trial: _TrialModel | None, share: float, within: float, beyond: float) -> float:
        """Return the share at which the damage should be what is aimed at, inside of what is known."""
        step = STEPS[1]
        if trial is not None:
            step = exp(log(AIMED / max(trial.excess, 1e-6)) / self._steepness(log(share)))
        aimed = share * min(max(step, STEPS[0]), STEPS[1])
        if not beyond * APART**0.5 < aimed < within / APART**0.5:
            aimed = sqrt(max(beyond, self._least) * min(within, self._largest_share))
        return min(max(aimed, self._least), self._largest_share)

    def _steepness(self, place: float) -> float:
        """How the excess falls with the cost near a place, both as logarithms, by the screening trials."""
        near = sorted(self._screened, key=lambda one: abs(one[0] - place))[:3]
        if len(near) < 2 or min(excess for _, excess in near) <= 0:
            return STEEPNESS
        (left, first), (right, last) = min(near), max(near)
        slope = (log(last) - log(first)) / (right - left)
        return min(max(slope, 3 * STEEPNESS), STEEPNESS / 3)

    def _try(self, share: float, *, stepwise: bool) -> _TrialModel | None:
        """Make a model at a share of the cost and judge it; None where nothing is cut, or what was made is wrong."""
        session, size_options = self._session, self._problem.size_options
        counts = allocate(size_options, [Limit(self._cost, share * self._whole)])
        if counts is None or counts == largest(size_options):
            return None
        known = next((trial for trial in self._full if trial.counts == counts), None) if stepwise else None
        if known is not None:  # sizes are coarse: another cost may allow the same ones
            return replace(known, share=share)
        try:
            candidate = execute_plan(session, make_plan(session, counts), stepwise=stepwise)
            judgement = judge(session.search_set, session.metric, candidate.result)
        except (CheckError, ModelError) as error:
            self.dropped.append(f"the trial at x {share:.2f} of the cost was dropped: {error}")
            return None
        over = self._over(judgement)
        self._note(share, judgement, stepwise=stepwise, fits=over <= 1)
        return _TrialModel(share, counts, candidate, judgement, over)

    def _note(self, share: float, judgement: Judgement, *, stepwise: bool, fits: bool) -> None:
        repair, worst = STEPWISE if stepwise else "one pass", judgement.damage.worst
        damage, name = (0.0, "") if worst is None else (worst.error, worst.view.name)
        self.trials.append(Trial(share, judgement.drop, judgement.error, repair, fits, damage, name, self._kind))
        full = sum(trial.repair == STEPWISE for trial in self.trials)
        done = len(self.trials) + full * (FULL_TRIAL_WORK - 1)
        self._progress("search", done, N_SCREENING_TRIALS + N_FULL_TRIALS * FULL_TRIAL_WORK)

    def refusal(self) -> str:
        """Say what the mildest cut loses."""
        trial = self.least_aggressive
        if trial is None or trial.judgement.damage.worst is None:
            return "nothing to prune: no cut that was tried leaves a model that can be used"
        worst, reading = trial.judgement.damage.worst, trial.judgement.decisive
        return (
            f"nothing to prune: every cut that was tried loses more than {self._drop:g}: the least aggressive"
            f" has damage {worst.error:.4f} at {worst.view.name} (1 is as bad as a constant), {reading.metric}"
            f" {reading.loss.text}; allow more with --max-drop, or take that with --best-effort"
        )
