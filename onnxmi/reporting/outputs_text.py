"""What a result's outputs lost, as lines for people. `onnxmi.reporting.json_data` has the same for machines."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from onnxmi.evaluation.meters import Reading
from onnxmi.evaluation.yardstick import Part
from onnxmi.pruning.api import Result
from onnxmi.reporting.text import plain

SHOWN = 3  # metrics of an output that the terminal shows


def show_outputs(console: Console, result: Result) -> None:
    """Print of every output what it is, how much of it is lost, and what it loses of the metrics that fit it."""
    if result.quality is None:
        return
    lines = [Text("Outputs *", style="bold")]
    for part in result.damage.parts:
        lines.append(plain(f"  {part.view.name} ({part.view.kind}): {_damage(part)}"))
        lines.extend(plain(f"    {_reading(one)}") for one in result.readings.get(part.view.name, ())[:SHOWN])
    names = {part.view.name for part in result.damage.parts}
    for name, readings in result.readings.items():
        if name not in names:
            lines.append(plain(f"  {name} together"))
            lines.extend(plain(f"    {_reading(one)}") for one in readings[:SHOWN])
    for line in lines:
        console.print(line)
    console.print(f"* on {result.quality.samples} samples that nothing was fitted to or chosen on\n", highlight=False)


def _damage(part: Part) -> str:
    worst = "" if part.column is None else f", {part.worst:.2%} of its worst column ({part.column})"
    return f"{part.error:.2%} of what it says is lost{worst}"


def _reading(reading: Reading) -> str:
    return f"{reading.metric} {reading.was:.4f} -> {reading.now:.4f}: {reading.loss.text}"
