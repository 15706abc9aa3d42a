"""The trade-off: models at several shares of one cost, and what each of them is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import onnx

from onnxmi.budget.allocate import Limit, allocate
from onnxmi.budget.goals import Kind
from onnxmi.errors import CheckError, ModelError, stage
from onnxmi.evaluation.judgement import judge, judge_answers
from onnxmi.evaluation.quality import Quality, quality_of
from onnxmi.execution.steps import counted
from onnxmi.graph.channel_graph import UnitCounts
from onnxmi.graph.cost import Cost
from onnxmi.model.external_data import byte_size
from onnxmi.pruning.cost_search import saved
from onnxmi.pruning.execute import execute_plan, make_plan
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.sizing import SizingProblem
from onnxmi.runtime.timing import Latency
from onnxmi.typing import Progress, silent
from onnxmi.verification.checks import check_result, require_passed

LEVELS = (0.8, 0.65, 0.5, 0.38, 0.28, 0.2, 0.12)  # between the least cost that can be had and the original's

ROUNDING = 1e-9  # by which a share is above what it allows: else a rounded product would leave that out


@dataclass(frozen=True, eq=False)
class JudgedPoint:
    """A model of the curve before its time is measured; see `TradeOffPoint`.

    Attributes
    ----------
    proto : onnx.ModelProto
        What would be written.
    """

    share: float
    proto: onnx.ModelProto
    cost: Cost
    value: float
    drop: float
    error: float | None
    quality: Quality


@dataclass(frozen=True)
class DroppedPoint:
    """A model of the curve that a check stopped, at a share of the original's cost."""

    share: float
    reason: str


JudgeAll = Callable[
    [PruningSession, Sequence[tuple[float, UnitCounts]], Progress], Iterable[JudgedPoint | DroppedPoint]
]
"""Makes and judges models of so many units."""


@dataclass(frozen=True, eq=False)
class TradeOffPoint:
    """One model of the curve.

    Attributes
    ----------
    share : float
        Of the original's cost, that was aimed at.
    cost : Cost
        Parameters, bytes and MACs.
    was, now : Latency
        Of the original and of this model, measured in turn.
    value, drop : float
        The metric on the samples held back, and what is lost of it against the original.
    error : float or None
        Standard error of the drop.
    quality : Quality
        Agreement, accuracy and error of the outputs on the same samples.
    """

    share: float
    cost: Cost
    was: Latency
    now: Latency
    value: float
    drop: float
    error: float | None
    quality: Quality

    @property
    def speedup(self) -> float:
        """Times as fast as the original."""
        return self.now.speedup_over(self.was)


@dataclass(frozen=True, eq=False)
class TradeOff:
    """A trade-off curve.

    Attributes
    ----------
    digest : str
        SHA-256 of the model.
    by : str
        The cost that was shared out.
    metric : str
        Name of the metric.
    dense : Cost
        Of the original.
    dense_value : float
        Its metric on the samples held back.
    samples : int
        How many of these there are.
    points : tuple of TradeOffPoint
        From the largest model to the smallest.
    skipped : tuple of float
        Shares that are below what the layers can be cut to.
    notes : tuple of str
        What the user should know of the samples.
    """

    digest: str
    by: Kind
    metric: str
    dense: Cost
    dense_value: float
    samples: int
    points: tuple[TradeOffPoint, ...]
    skipped: tuple[float, ...]
    notes: tuple[str, ...] = ()


def judged_point(session: PruningSession, share: float, counts: UnitCounts) -> JudgedPoint | DroppedPoint:
    """Make a model with so many units, and judge it; its time is measured apart."""
    try:
        return _judged_point(session, share, counts)
    except (CheckError, ModelError) as error:  # one wrong model says nothing against the others
        return DroppedPoint(share, str(error))


def _judged_point(session: PruningSession, share: float, counts: UnitCounts) -> JudgedPoint:
    samples = session.shared_samples if session.options.repair else None
    candidate = execute_plan(session, make_plan(session, counts), samples=samples)
    require_passed(check_result(session.source, candidate.result, session.some_feeds(session.split.test)))
    judgement = judge(session.test_set, session.metric, candidate.result)
    return JudgedPoint(
        share=share,
        proto=candidate.result,
        cost=replace(session.cost(candidate.proto), size=byte_size(candidate.result)),
        value=judgement.decisive.now,
        drop=judgement.drop,
        error=judgement.error,
        quality=quality_of(session.test_set, judgement),
    )


def judge_here(
    session: PruningSession, wanted: Sequence[tuple[float, UnitCounts]], progress: Progress
) -> Iterator[JudgedPoint | DroppedPoint]:
    """Make the models one after the other."""
    for share, counts in counted(wanted, "sweep", progress):
        yield judged_point(session, share, counts)


@stage("search")
def trade_off(
    session: PruningSession,
    problem: SizingProblem,
    by: Kind,
    shares: Sequence[float] | None = None,
    progress: Progress = silent,
    judge_all: JudgeAll = judge_here,
) -> TradeOff:
    """Make a model for each share, from the same measurements, and judge it on the samples held back.

    Parameters
    ----------
    judge_all : callable, optional
        Makes and judges the models, if that is not done here; times are measured here in any case.
    shares : sequence of float, optional
        Of the original's cost; without them, `LEVELS` between the least that can be had and the original's. Where every
        cut is quantized, between the least and the 8-bit version of the original, which is a model of the curve, too.

    Raises
    ------
    CheckError
        If checks stop all of the models; where they stop some, a note says so.
    """
    wanted: list[tuple[float, UnitCounts]] = []
    skipped: list[float] = []
    whole, scale = problem.source[by], saved(session, by)
    if shares is None:
        least = problem.least(by) * scale
        shares = [least + level * (_most(session, problem, by, scale) - least) for level in _levels(session)]
    for share in sorted(shares, reverse=True):
        counts = allocate(problem.size_options, [Limit(problem.costs[by], share * whole / scale)])
        if counts is None:
            skipped.append(share)
        else:
            wanted.append((share, counts))
    points: list[TradeOffPoint] = []
    dropped: list[DroppedPoint] = []
    for point in judge_all(session, wanted, progress):
        if isinstance(point, DroppedPoint):
            dropped.append(point)
        else:
            points.append(_timed(session, point))
    if dropped and not points:
        raise CheckError(dropped[0].reason)
    dense = judge_answers(session.test_set, session.metric, session.test_set.reference).decisive
    cost, samples = session.dense_cost, len(session.split.test)
    lost = (f"the model at x {point.share:.2f} of the cost was dropped: {point.reason}" for point in dropped)
    model, notes = session.model.digest, (*session.data.notes, *lost)
    return TradeOff(model, by, dense.metric, cost, dense.now, samples, tuple(points), tuple(skipped), notes)


def _levels(session: PruningSession) -> tuple[float, ...]:
    """Return the default levels; of 8-bit models the first is not pruned, so that each step can be told apart."""
    return LEVELS if session.precision is None else (1.0, *LEVELS)


def _most(session: PruningSession, problem: SizingProblem, by: Kind, scale: float) -> float:
    """Return the share of a cost from which the levels go down: the original's, or that of its 8-bit version."""
    if session.precision is None:
        return 1.0
    return scale * problem.costs[by].total({}) / problem.source[by] * (1 + ROUNDING)


def _timed(session: PruningSession, point: JudgedPoint) -> TradeOffPoint:
    was, now = session.time(point.proto)
    figures = {name: value for name, value in vars(point).items() if name != "proto"}
    return TradeOffPoint(**figures, was=was, now=now)
