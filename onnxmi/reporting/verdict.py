"""The verdict on a result: how much faster and smaller it is, what it loses, and whether what was asked for is met."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from onnxmi.budget.goals import DEFAULT_DROP, Goal
from onnxmi.budget.units import change_text, size_text, speed_text, time_text, typed_percent
from onnxmi.evaluation.output_metrics import MetricValue
from onnxmi.graph.cost import Cost
from onnxmi.pruning.outcome import Outcome
from onnxmi.reporting.tables import Pairs, printable
from onnxmi.runtime.timing import Latency

_LINES: Mapping[str, tuple[str, ...]] = {
    "speed": ("speedup", "max_latency"),
    "size": ("max_size", "params"),
    "work": ("macs",),
    "quality": ("max_drop",),
}
_STYLES = {"met": "green", "missed": "bold red", "undecided": "yellow", "within noise": "yellow"}


@dataclass(frozen=True)
class VerdictLine:
    """One respect in which a result is judged.

    Attributes
    ----------
    name : str
        A key of the table of lines: speed, size, work, quality or evaluation.
    text : str
        What was measured, before and after.
    goals : tuple of Goal
        What was asked for in this respect.
    by_default : bool
        Whether the goal is that of a run without a budget.
    """

    name: str
    text: str
    goals: tuple[Goal, ...] = ()
    by_default: bool = False

    def asked(self) -> Iterator[tuple[str, str]]:
        """Yield what was asked for, and whether it is met."""
        for goal in self.goals:
            text = f"at most {typed_percent(DEFAULT_DROP)} lost (default)" if self.by_default else goal.asked_text
            yield text, goal.verdict


def verdict_lines(result: Outcome) -> tuple[VerdictLine, ...]:
    """Return what a result gains and loses, in the order of interest."""
    texts = {
        "speed": _speed(result.latency),
        "size": _size(result.before, result.after),
        "work": _work(result.before, result.after),
        "quality": _quality(result.decisive),
    }
    lines = []
    for name, goal_names in _LINES.items():
        goals = tuple(goal for goal in result.goals if goal.name in goal_names)
        if texts[name] and (goals or name != "work" or result.latency is None):
            lines.append(VerdictLine(name, texts[name], goals, result.by_default and name == "quality"))
    if result.evaluation is not None and result.evaluation.decisive is not None:
        reading = result.evaluation.decisive.readings[0]
        lines.append(VerdictLine("evaluation", f"{_quality(reading)} of {result.evaluation.name or 'your own'}"))
    return tuple(lines)


def _speed(latency: tuple[Latency, Latency] | None) -> str:
    if latency is None:
        return ""
    was, now = latency
    interval = now.speedup_interval(was)
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    span = f" [{interval.low:.2f}, {interval.high:.2f}]" if known else ""
    times = f"{time_text(was.median)} -> {time_text(now.median)} a run"
    return f"{speed_text(now.speedup_over(was))}{span}: {times}"


def _size(before: Cost, after: Cost) -> str:
    return f"{_change(before.size, after.size)}: {size_text(before.size)} -> {size_text(after.size)}"


def _work(before: Cost, after: Cost) -> str:
    change = _change(before.macs, after.macs, "fewer", "more")
    return f"{change} multiply-accumulates: {before.macs:,} -> {after.macs:,} for one sample"


def _change(before: float, after: float, *ways: str) -> str:
    return " ".join(change_text(after / before if before else 1.0, *ways))


def _quality(decisive: MetricValue | None) -> str:
    if decisive is None:
        return ""
    return f"{printable(decisive.metric)} {decisive.was:.4f} -> {decisive.now:.4f}: {decisive.loss.text}"


def show_verdict(console: Console, result: Outcome) -> None:
    """Print the verdict, a line for each respect."""
    console.print(Text("Result", style="bold"))
    rows = []
    for line in verdict_lines(result):
        text = Text(line.text)
        for asked, verdict in line.asked():
            text.append(f"; {asked}: ")
            text.append(verdict, _STYLES[verdict])
        rows.append((line.name, text))
    console.print(Pairs(rows))
