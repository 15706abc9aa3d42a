"""What pruning and what 8 bits did to a result, as a table."""

from __future__ import annotations

from rich.console import Console

from onnxmi.budget.units import FACTOR, size_text, time_text
from onnxmi.pruning.contributions import Contribution
from onnxmi.pruning.outcome import Outcome
from onnxmi.reporting.tables import NumberTable
from onnxmi.reporting.text import damage_text


def show_contributions(console: Console, result: Outcome) -> None:
    """Print a line for the original, the pruned model and the 8-bit one; nothing where the result is float."""
    if not result.contributions:
        return
    table = NumberTable("What each step did", "", "file size", "one run", "speed-up", "damage *", f"{result.metric} *")
    for step in result.contributions:
        time, speed = _timed(step)
        table.add_row(step.name, size_text(step.size), time, speed, damage_text(step.damage), f"{step.value:.4f}")
    console.print(table)


def _timed(step: Contribution) -> tuple[str, str]:
    if step.latency is None or step.speedup is None:
        return "", ""
    return time_text(step.latency[1].median), FACTOR.show(step.speedup)
