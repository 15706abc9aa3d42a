"""What to do with a result next: commands to copy, and options that would cut more."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from onnxmi.budget.goals import DEFAULT_DROP, Kind
from onnxmi.budget.units import size_text, typed_percent
from onnxmi.pruning.outcome import Outcome
from onnxmi.pruning.sweep import TradeOff, TradeOffPoint
from onnxmi.reporting.tables import printable

FLOAT_BYTES = 3.5  # of the file for each parameter, above which the weights are not in 8 bits yet


@dataclass(frozen=True)
class Run:
    """The files of a run of `onnxmi prune`.

    Attributes
    ----------
    model, target : Path
        The original and the result.
    calib : Path
        The samples.
    evaluated : Path or None
        A file of the user's own that the result was measured on.
    reading : tuple of str
        Words of the command line that say how samples are read.
    has_page : bool
        Whether an HTML page was written.
    """

    model: Path
    target: Path
    calib: Path
    evaluated: Path | None = None
    reading: tuple[str, ...] = ()
    has_page: bool = False


def next_steps(result: Outcome, run: Run) -> Iterator[tuple[str, str]]:
    """Yield what to run or add, and why."""
    model, target = shlex.quote(str(run.model)), shlex.quote(str(run.target))
    yield f"onnxmi bench {model} {target}", "time and memory of both, with intervals"
    drop = typed_percent(next((goal.asked for goal in result.goals if goal.name == "max_drop"), DEFAULT_DROP))
    data = f"EVAL{run.calib.suffix}" if run.evaluated is None else shlex.quote(str(run.evaluated))
    read = " ".join([data, *map(shlex.quote, run.reading)])
    yield f"onnxmi check {target} --baseline {model} --data {read} --max-drop {drop}", "a gate on samples of your own"
    if not run.has_page:
        yield "--report PAGE.html", "one page to show to others"
    for hint in result.hints:
        yield hint.option, f"{hint.holds}, which this cuts"
    if not result.contributions and result.after.size > FLOAT_BYTES * result.after.parameters:
        yield "--quantize auto", f"8-bit weights if they are faster here: about {size_text(result.after.parameters)}"


def steps_of_sweep(curve: TradeOff, model: Path, calib: Path, reading: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the command that makes a model of a trade-off: the fastest that loses at most a point, else the mildest."""
    within = [point for point in curve.points if point.drop <= DEFAULT_DROP]
    point = max(within, key=lambda one: one.speedup, default=curve.points[0])
    words = (str(model), str(calib), *reading, *_BUDGETS[curve.by](point, curve))
    lost = f"{100 * point.drop:.1f} points of {printable(curve.metric)} lost"
    yield f"onnxmi prune {' '.join(map(shlex.quote, words))}", f"makes the model at x {point.share:.2f}: {lost}"


_BUDGETS: Mapping[Kind, Callable[[TradeOffPoint, TradeOff], tuple[str, str]]] = {
    "time": lambda point, _curve: ("--speedup", f"{point.speedup:.2f}"),
    "size": lambda point, curve: ("--max-size", typed_percent(point.cost.size / curve.dense.size)),
    "macs": lambda point, curve: ("--macs", typed_percent(point.cost.macs / max(curve.dense.macs, 1))),
    "params": lambda point, curve: ("--params", typed_percent(point.cost.parameters / curve.dense.parameters)),
}
"""The budget that asks for a model of a trade-off by each cost."""


def show_next_steps(console: Console, steps: Iterable[tuple[str, str]]) -> None:
    """Print what to do next, each command on a line that can be copied."""
    console.print(Text("Next", style="bold"))
    for command, why in steps:
        console.print(Text(f"  {printable(command)}"), soft_wrap=True)
        console.print(Padding(Text(printable(why), style="dim"), (0, 0, 0, 4)))
