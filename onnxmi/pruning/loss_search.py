"""Searching for a loss: the cheapest model whose damage and whose loss of the metric are within what is allowed.

The damage decides, since it falls smoothly with the cost and some dozen samples tell it; and the metric, which counts,
as far as the samples speak against the promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt

from onnxmi.budget.allocate import Limit, allocate, largest
from onnxmi.budget.goals import Goal, Kind, Trial
from onnxmi.errors import CheckError, ModelError, NothingToPruneError, stage
from onnxmi.evaluation.damage_limits import allowed_damage
from onnxmi.evaluation.judgement import Judgement, judge
from onnxmi.execution.steps import as_share
from onnxmi.graph.channel_graph import LayerId, UnitCounts
from onnxmi.pruning.cost_search import SearchResult
from onnxmi.pruning.execute import Candidate, execute_plan, make_plan
from onnxmi.pruning.forecast import Forecast, foretold_damage
from onnxmi.pruning.session import SPELLED, PruningSession
from onnxmi.pruning.sizing import SizingProblem
from onnxmi.typing import Progress, silent

N_QUICK_TRIALS = 4  # trials that are repaired on few samples
N_FULL_TRIALS = 4  # trials that are repaired on all
N_MILDER_TRIALS = 3  # more of these, each of more cost, where none was within what is allowed
QUICK, FULL = "few samples", "step by step"  # what the repairs are called in a trial
FULL_TRIAL_WORK = 3  # times as long as a trial on few samples, about
USUAL_WORK = 8  # trials on few samples that the search takes as long as
LARGEST_SHARE = 0.95  # of the cost: a smaller cut is not worth a change of files
ENOUGH_SEARCHED = 200  # samples: of fewer, a few answers that change decide what the damage is
AIMED = 0.87  # of the allowed damage, at the next trial: as far below it as models are off what is foretold
APART = 1.03  # factor between costs of models that are as good as the same
WORTHWHILE = 1.1  # factor of cost, to the next trial or between which the limit lies, from which on a trial pays
STEPS = (0.5, 2.0)  # a trial's cost over the last one's, at least and at most
TOGETHER = 1.0  # times the sum of the layers' damage is left of a model that is cut to all their sizes, about
ON_ALL = 0.95  # times the damage of a repair on few samples is left by one on all, about
LEAST_EXCESS, MOST_EXCESS = 1e-6, 1e3  # that a forecast takes in: neither nothing nor infinity has a logarithm
SEARCHED: tuple[Kind, ...] = ("time", "macs", "params")  # what is cut to a loss, the first that sizes change by much
REDUCIBLE = 0.9  # most that may be left of a cost at the smallest sizes for it to be worth cutting


JudgeTrial = Callable[[PruningSession, UnitCounts, str, Progress], tuple[Candidate, Judgement]]
"""Makes and judges a model of so many units, repaired as `QUICK` or `FULL` says."""


def judged_trial(
    session: PruningSession, counts: UnitCounts, repair: str, progress: Progress = silent
) -> tuple[Candidate, Judgement]:
    """Make a model with so many units, repaired on few samples or on all, and judge it for a search."""
    samples = session.shared_trial_samples if repair == QUICK else session.shared_samples
    repaired_on = samples if session.options.repair else None
    candidate = execute_plan(session, make_plan(session, counts), samples=repaired_on, progress=progress)
    return candidate, _judged(session, candidate)


def _judged(session: PruningSession, candidate: Candidate) -> Judgement:
    """Judge a model on the search samples, and where those are few on fit samples, too."""
    judgement = judge(session.search_set, session.metric, candidate.result)
    if len(session.search_set.samples) >= ENOUGH_SEARCHED:
        return judgement
    return replace(judgement, fitted=judge(session.means_set, session.metric, candidate.result))


@stage("search")
def search_quality_budget(
    session: PruningSession,
    problem: SizingProblem,
    drop: float,
    progress: Progress = silent,
    judge_trial: JudgeTrial = judged_trial,
) -> SearchResult:
    """Find the fastest model that loses no more than allowed, on samples that neither it nor the report is fitted to.

    Where the time hardly depends on the sizes, as in very small models, the work or the parameters are cut instead.
    What the layers' damage curves foretell is put right by models that are repaired on few samples; from there on
    models with the full repair are made at costs that the damage of all of these points at.

    Parameters
    ----------
    drop : float
        Points of the metric that may be lost; limits of the damage go with it.
    judge_trial : callable, optional
        Makes and judges the models, if that is not done here.

    Raises
    ------
    NothingToPruneError
        If the mildest cut loses more, and the nearest was not asked for.
    """
    kind, least = _worth_cutting(problem)
    search = _Search(session, problem, kind, least, drop, progress, judge_trial)
    search.run()
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
        Its damage over what is allowed; the loss that is expected over what is allowed, if that is more.
    """

    share: float
    counts: Mapping[LayerId, int]
    candidate: Candidate
    judgement: Judgement
    excess: float


class _Search:
    """The trials of one search, and the best model among them."""

    def __init__(
        self,
        session: PruningSession,
        problem: SizingProblem,
        kind: Kind,
        least: float,
        drop: float,
        progress: Progress,
        judge_trial: JudgeTrial,
    ) -> None:
        self._session, self._problem, self._drop, self._progress = session, problem, drop, progress
        self._kind, self._judge_trial = kind, judge_trial
        self._cost, self._whole, self._least = problem.costs[kind], problem.source[kind], max(least, 1e-3)
        self._largest_share = LARGEST_SHARE * self._cost.total({}) / self._whole
        self._made: dict[str, list[_TrialModel]] = {}
        self._wrong: list[UnitCounts] = []  # sizes of models that a check stopped
        self.trials: list[Trial] = []
        self.dropped: list[str] = []

    @property
    def best(self) -> _TrialModel | None:
        """The smallest model within what is allowed."""
        return min((trial for trial in self._full if trial.excess <= 1), key=lambda trial: trial.share, default=None)

    @property
    def _full(self) -> list[_TrialModel]:
        """The models that were repaired on all samples."""
        return self._made.get(FULL, [])

    @property
    def least_aggressive(self) -> _TrialModel | None:
        """The one that exceeds it least."""
        return min(self._full, key=lambda trial: trial.excess, default=None)

    def uncut(self, candidate: Candidate) -> _TrialModel:
        """Return what leaves out unused positions alone, and is rounded to 8 bits, if anything."""
        judgement = _judged(self._session, candidate)
        return _TrialModel(
            1.0, {}, candidate, judgement, 0.0 if candidate.quantized is None else judgement.excess(self._drop)
        )

    def run(self) -> None:
        """Try models that are repaired on few samples first, then models that are repaired on all."""
        session = self._session
        foretold = foretold_damage(self._problem, self._kind)
        forecast = Forecast(foretold, log(TOGETHER / self._allowed))
        if session.options.repair and session.trial_samples is not session.repair_samples:
            self._approach(QUICK, N_QUICK_TRIALS, forecast)
            forecast = Forecast(forecast, log(ON_ALL))
        self._approach(FULL, N_FULL_TRIALS, forecast)

    @property
    def _allowed(self) -> float:
        """Damage of an output that goes with the loss."""
        return min(allowed_damage(view.kind, self._drop) for view in self._session.outputs.yardstick.views)

    def _approach(self, repair: str, most: int, forecast: Forecast) -> None:
        """Try shares at which the loss is foretold to be what is aimed at, until one is near enough."""
        share = exp(forecast.place_of(log(AIMED), log(self._least), log(self._largest_share)))
        within, beyond = inf, 0.0  # shares between which the limit lies
        for number in range(most + N_MILDER_TRIALS):
            if number >= most:
                if within < inf or repair == QUICK:
                    return
                share = min(max(share, beyond * WORTHWHILE), self._largest_share)
            share = self._of_other_sizes(share, repair)
            trial = self._try(share, repair)
            if trial is not None:
                forecast.measured(log(share), log(min(max(trial.excess, LEAST_EXCESS), MOST_EXCESS)))
            if trial is not None and trial.excess <= 1:
                within = min(within, share)
            else:
                beyond = max(beyond, share)
            if within <= beyond * WORTHWHILE or beyond >= self._largest_share or within <= self._least:
                return
            aimed = self._next(forecast, share, within, beyond)
            usable = trial is not None and (trial.excess <= 1 or repair == QUICK)
            if usable and max(aimed / share, share / aimed) < WORTHWHILE:
                return
            share = aimed

    def _next(self, forecast: Forecast, share: float, within: float, beyond: float) -> float:
        """Return the share at which the loss should be what is aimed at, inside of what is known."""
        aimed = exp(forecast.place_of(log(AIMED), log(self._least), log(self._largest_share)))
        aimed = share * min(max(aimed / share, STEPS[0]), STEPS[1])
        # Where the loss falls steeply, the limit is right beside what was tried: bisecting would go far beyond it.
        aimed = min(max(aimed, beyond * sqrt(APART)), within / sqrt(APART))
        return min(max(aimed, self._least), self._largest_share)

    def _of_other_sizes(self, share: float, repair: str) -> float:
        """Return the next larger share that allows other sizes than a model which lost too much: sizes are coarse."""
        while share < self._largest_share:
            counts = self._counts(share)
            known = self._known(counts, repair)
            if counts not in self._wrong and (known is None or known.excess <= 1):
                break
            share = min(share * sqrt(APART), self._largest_share)
        return share

    def _counts(self, share: float) -> UnitCounts | None:
        """Return the sizes of least damage within a share of the cost; None where these are all."""
        size_options = self._problem.size_options
        counts = allocate(size_options, [Limit(self._cost, share * self._whole)])
        return None if counts == largest(size_options) else counts

    def _known(self, counts: UnitCounts | None, repair: str) -> _TrialModel | None:
        return next((trial for trial in self._made.get(repair, ()) if trial.counts == counts), None)

    def _try(self, share: float, repair: str) -> _TrialModel | None:
        """Make a model at a share of the cost and judge it; None where nothing is cut, or what was made is wrong."""
        counts = self._counts(share)
        if counts is None:
            return None
        known = self._known(counts, repair)
        if known is not None:
            return replace(known, share=share)
        work = FULL_TRIAL_WORK if repair == FULL else 1
        told = as_share(self._progress, "search", self._work, work, max(USUAL_WORK, self._work + work))
        told("search", 0, 1)
        try:
            candidate, judgement = self._judge_trial(self._session, counts, repair, told)
        except (CheckError, ModelError) as error:
            self._wrong.append(counts)
            self.dropped.append(f"the trial at x {share:.2f} of the cost was dropped: {error}")
            return None
        trial = _TrialModel(share, counts, candidate, judgement, judgement.excess(self._drop))
        self._made.setdefault(repair, []).append(trial)
        self._note(trial, repair)
        return trial

    def _note(self, trial: _TrialModel, repair: str) -> None:
        judgement, worst = trial.judgement, trial.judgement.worst(self._drop)
        damage, name = (0.0, "") if worst is None else (worst.error, worst.view.name)
        lost = judgement.drop, judgement.error
        expected = judgement.expected_loss(self._drop)
        self.trials.append(Trial(trial.share, *lost, repair, trial.excess <= 1, damage, name, self._kind, expected))
        self._progress("search", self._work, max(USUAL_WORK, self._work + 1))

    @property
    def _work(self) -> int:
        """What was tried so far, in trials on few samples."""
        return sum(FULL_TRIAL_WORK if one.repair == FULL else 1 for one in self.trials)

    def refusal(self) -> str:
        """Say what the mildest cut loses."""
        trial = self.least_aggressive
        worst = None if trial is None else trial.judgement.worst(self._drop)
        if trial is None or worst is None:
            return "nothing to prune: no cut that was tried leaves a model that can be used"
        reading, expected = trial.judgement.decisive, trial.judgement.expected_loss(self._drop)
        return (
            f"nothing to prune: every cut that was tried loses more than {self._drop:g}: the least aggressive"
            f" has damage {worst.error:.4f} at {worst.view.name} (1 is as bad as a constant), {reading.metric}"
            f" {reading.loss.text}, and {expected:.2g} is expected; allow more with --max-drop, or take that with"
            " --best-effort"
        )
