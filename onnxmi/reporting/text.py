"""What a run found, as tables for people. `onnxmi.reporting.json_data` has the same for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from onnxmi.budget.units import FACTOR, POINTS, size_text, time_text
from onnxmi.pruning.sweep import TradeOff
from onnxmi.reporting.tables import NumberTable, plain, printable

MOST_DAMAGE = 10.0  # that is printed
SHOWN = 12  # entries of a long list that the terminal shows; --json has all


def units_text(size: int, parts: int) -> str:
    """Return the units of a layer, of each part where there are several."""
    return f"{parts} x {size}" if parts > 1 else str(size)


def damage_text(damage: float) -> str:
    """Return a damage in hundredths; 1 is as bad as a constant, so how far beyond that it is says nothing."""
    return f"{damage:.2%}" if damage <= MOST_DAMAGE else f"over {MOST_DAMAGE:.0%}"


def reasons(title: str, entries: Sequence[tuple[str, int, str]]) -> RenderableType:
    """Return what was left alone, each with its reason."""
    if not entries:
        return Group(Text(title, style="bold"), Text("  nothing\n"))
    table = NumberTable(title, "layer and reason", "size")
    for name, size, why in entries[:SHOWN]:
        table.add_row(entry(name, [why]), str(size))
    if len(entries) <= SHOWN:
        return table
    return Group(table, Text(f"  ... and {len(entries) - SHOWN} more; --json has them all\n"))


def entry(name: str, remarks: Iterable[str]) -> Group:
    """Return a name with indented remarks below it: long names and reasons need the whole width."""
    return Group(plain(name), *(Padding(plain(remark, "dim"), (0, 0, 0, 2)) for remark in remarks))


def show_curve(console: Console, curve: TradeOff) -> None:
    """Print a trade-off, a line a model."""
    metric = printable(curve.metric)
    columns = (curve.by, "size", "MACs", "one run", "speed-up", f"{metric} *", "lost *")
    table = NumberTable("Trade-off", *columns)
    dense = curve.dense
    table.add_row("dense", size_text(dense.size), "x 1.00", "", "", POINTS.show(curve.dense_value), "")
    for point in curve.points:
        table.add_row(
            f"x {point.share:.2f}",
            size_text(point.cost.size),
            f"x {point.cost.macs / max(dense.macs, 1):.2f}",
            time_text(point.now.median),
            FACTOR.show(point.speedup),
            POINTS.show(point.value),
            POINTS.show(point.drop) + ("" if point.error is None else f" ± {point.error:.3f}"),
        )
    console.print(Group(table, Text(f"* on {curve.samples} test samples, which nothing was fitted to\n")))
    for share in curve.skipped:
        console.print(Text(f"note: x {share:.2f} of {curve.by} is less than the layers can be cut to"))
    for note in curve.notes:
        console.print(plain(f"note: {note}"))
