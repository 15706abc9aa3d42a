"""What was asked for, what was tried and what a trade-off looks like, as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Console, Group, RenderableType
from rich.text import Text

from onnxmi.budget.goals import Goal, option
from onnxmi.pruning.api import Curve, Result
from onnxmi.reporting.text import number_table, printable, size_text
from onnxmi.runtime.timing import Latency


def _points(value: float) -> str:
    return f"{value:.4f}"


_UNITS: Mapping[str, Callable[[float], str]] = {
    "max_size": lambda value: size_text(round(value)),
    "params": lambda value: f"x {value:.3f}",
    "macs": lambda value: f"x {value:.3f}",
    "speedup": lambda value: f"{value:.2f}x",
    "max_latency": lambda value: f"{value:.3f} ms",
    "max_drop": _points,
}


def show_budget(console: Console, result: Result) -> None:
    """Print what was asked for beside what was reached, and what was tried on the way."""
    if result.goals:
        console.print(_goals(result))
    if result.trials:
        console.print(_trials(result))
    if result.by_default:
        console.print(
            Text(
                "No budget was given: this is the fastest model found that loses at most 0.01 of the metric. Ask for"
                " another with --max-drop, --speedup, --latency, --max-size, --params, --macs or --keep.\n"
            )
        )


def _goals(result: Result) -> RenderableType:
    table = number_table("Budget", "", "asked", "reached", "")
    for goal in result.goals:
        shown = _UNITS[goal.name]
        name = f"{option(goal.name)} ({printable(result.metric)}) *" if goal.name == "max_drop" else option(goal.name)
        table.add_row(name, _bound(goal) + shown(goal.asked), shown(goal.reached), _verdict(goal))
    return table


def _verdict(goal: Goal) -> str:
    return "undecided" if goal.undecided else "met" if goal.met else "MISSED"


def _bound(goal: Goal) -> str:
    return ">= " if goal.name == "speedup" else "<= "


def _trials(result: Result) -> RenderableType:
    table = number_table("Trials", "repair", "cost aimed at", "points lost *", "of the worst output", "")
    for trial in result.trials:
        error = "" if trial.error is None else f" ± {trial.error:.4f}"
        worst = f"{trial.damage:.2%}"
        row = trial.repair, f"x {trial.share:.2f}", f"{trial.drop:.4f}{error}", worst, "fits" if trial.fits else ""
        table.add_row(*row)
    return Group(table, Text("* on samples that nothing was fitted to, and that the result is not reported on\n"))


def show_curve(console: Console, curve: Curve) -> None:
    """Print a trade-off, a line a model."""
    metric = printable(curve.metric)
    columns = (curve.by, "size", "MACs", "one run", "speed-up", f"{metric} *", "lost *")
    table = number_table("Trade-off", *columns)
    table.columns[0].no_wrap = True
    dense = curve.dense
    table.add_row("dense", size_text(dense.size), "x 1.00", "", "", _points(curve.dense_value), "")
    for point in curve.points:
        table.add_row(
            f"x {point.share:.2f}",
            size_text(point.cost.size),
            f"x {point.cost.macs / max(dense.macs, 1):.2f}",
            _milliseconds(point.now),
            f"{point.speedup:.2f}x",
            _points(point.value),
            _points(point.drop) + ("" if point.error is None else f" ± {point.error:.3f}"),
        )
    console.print(Group(table, Text(f"* on {curve.samples} calibration samples that nothing was fitted to\n")))
    for share in curve.skipped:
        console.print(Text(f"note: x {share:.2f} of {curve.by} is less than the layers can be cut to"))


def _milliseconds(latency: Latency) -> str:
    return f"{latency.median:.3f} ms"
