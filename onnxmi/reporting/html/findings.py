"""What a result gains and loses, read from JSON: losses with their intervals, outputs, and answers that changed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from onnxmi.reporting.html.fields import Fields

_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")
_CHANGED = ("sample", "before", "after", "label")


@dataclass(frozen=True)
class LossRow:
    """What is lost of a metric; a lost point is 0.01 where the unit is points."""

    metric: str
    before: float
    after: float
    lost: float
    low: float | None
    high: float | None
    samples: int
    unit: str = "points"
    answers_lost: int | None = None
    answers_gained: int | None = None


@dataclass(frozen=True)
class OutputRow:
    """An output: how much of it is lost in all, in its worst column, and by the metric that decides."""

    name: str
    kind: str
    damage: float | None
    worst_column: str
    worst: float | None
    loss: LossRow | None


@dataclass(frozen=True)
class ChangedRow:
    """A sample whose answer changed; `picture` is a `data:` address of a PNG, `caption` its text or file, or empty."""

    sample: str
    before: str
    after: str
    label: str
    picture: str
    caption: str


@dataclass(frozen=True)
class GoalRow:
    """What was asked for and reached, in its own unit."""

    name: str
    asked: float | None
    reached: float | None
    met: bool
    undecided: bool


@dataclass(frozen=True)
class Findings:
    """What the top of a page is made of.

    Attributes
    ----------
    decisive : LossRow or None
        Of the output that lost most, on the test samples.
    evaluation : LossRow or None
        The same on a file of the user's.
    evaluated_on : str
        That file.
    speedup_interval : tuple of two float, or None
        Of the speed-up.
    outputs : tuple of OutputRow
        The one with the worst column first.
    changed : tuple of ChangedRow
        Test samples whose answer changed.
    goals : tuple of GoalRow
        What was asked for.
    by_default : bool
        Whether the loss that was allowed is that of a run without a budget.
    """

    decisive: LossRow | None
    evaluation: LossRow | None
    evaluated_on: str
    speedup_interval: tuple[float, float] | None
    outputs: tuple[OutputRow, ...]
    changed: tuple[ChangedRow, ...]
    goals: tuple[GoalRow, ...]
    by_default: bool

    @property
    def loss(self) -> LossRow | None:
        """The loss that says most: on the user's own samples where there are some."""
        return self.evaluation or self.decisive

    def goal(self, *names: str) -> GoalRow | None:
        """The first goal of some names."""
        return next((goal for goal in self.goals if goal.name in names), None)


def read_findings(fields: Fields) -> Findings:
    """Read what a page's top needs from `prune --json`; what an older file lacks is empty.

    Raises
    ------
    DataError
        If a field has another type.
    """
    evaluation = fields.fields("evaluation")
    interval = fields.fields("latency_ms").numbers("speedup_interval")
    outputs = sorted(map(_output, fields.entries("outputs")), key=lambda row: -(row.worst or row.damage or 0.0))
    goals = tuple(map(_goal, fields.entries("goals"))) if fields.lists("goals") else ()
    return Findings(
        decisive=read_loss(fields.fields("decisive")) or _loss_of_older(fields.fields("quality")),
        evaluation=_worst_of(evaluation),
        evaluated_on=evaluation.text("name").rpartition("/")[2],
        speedup_interval=(interval[0], interval[1]) if len(interval) == 2 else None,
        outputs=tuple(outputs),
        changed=tuple(map(_changed, fields.entries("changed_answers"))),
        goals=goals,
        by_default="max_drop" not in fields.fields("options") and bool(fields.entries("trials")),
    )


def read_loss(fields: Fields) -> LossRow | None:
    """Read a metric with its loss; None where it is missing."""
    before, after, lost = (fields.number(key) for key in ("before", "after", "lost"))
    if before is None or after is None or lost is None:
        return None
    interval = fields.numbers("interval")
    low, high = (interval[0], interval[1]) if len(interval) == 2 else (None, None)
    counts = [fields.number(key) for key in ("answers_lost", "answers_gained")]
    lost_answers, gained = (None if count is None else int(count) for count in counts)
    samples = int(fields.number("samples") or 0)
    unit = fields.text("unit") or "points"
    return LossRow(fields.text("metric"), before, after, lost, low, high, samples, unit, lost_answers, gained)


def _loss_of_older(quality: Fields) -> LossRow | None:
    """Return what older files tell of a loss: accuracy or agreement, without an interval."""
    samples = int(quality.number("samples") or 0)
    for metric, key, original in (
        ("accuracy", "accuracy", quality.number("original_accuracy")),
        ("agreement", "agreement", 1.0),
    ):
        value = quality.number(key)
        if value is not None and original is not None:
            return LossRow(metric, original, value, original - value, None, None, samples)
    return None


def _output(entry: Fields) -> OutputRow:
    metrics = entry.entries("metrics")
    column = entry.spelled("worst_column") if "worst_column" in entry else ""
    return OutputRow(
        entry.text("name"),
        entry.text("kind"),
        entry.number("damage"),
        column,
        entry.number("worst_column_damage"),
        read_loss(metrics[0]) if metrics else None,
    )


def _worst_of(evaluation: Fields) -> LossRow | None:
    metrics = [output.entries("metrics") for output in evaluation.entries("outputs")]
    losses = [read_loss(own[0]) for own in metrics if own]
    return max((loss for loss in losses if loss is not None), key=lambda loss: loss.lost, default=None)


def _changed(entry: Fields) -> ChangedRow:
    picture = entry.text("image", 100_000)
    sample, before, after, label = (entry.spelled(key) if key in entry else "" for key in _CHANGED)
    shown_picture = picture if _PICTURE.fullmatch(picture) else ""
    return ChangedRow(sample, before, after, label, shown_picture, entry.text("caption"))


def _goal(entry: Fields) -> GoalRow:
    name = entry.text("name").removeprefix("--").replace("-", "_")
    return GoalRow(
        "max_latency" if name == "latency" else name,
        entry.number("asked"),
        entry.number("reached"),
        entry.flag("met"),
        entry.flag("undecided"),
    )
