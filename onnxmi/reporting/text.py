"""What a run found, as tables for people. `onnxmi.reporting.json_data` has the same for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from onnxmi.budget.units import FACTOR, POINTS, size_text, time_text
from onnxmi.outputs.describe import describe
from onnxmi.outputs.view import Meaning
from onnxmi.pruning.sweep import TradeOff
from onnxmi.reporting.json_data import LayerRow, layer_rows
from onnxmi.reporting.tables import NumberTable, plain, printable
from onnxmi.transforms.analysis import Analysis

SHOWN = 12  # entries of a long list that the terminal shows; --json has all


def units_text(size: int, parts: int) -> str:
    """Return the units of a layer, of each part where there are several."""
    return f"{parts} x {size}" if parts > 1 else str(size)


def reasons(title: str, entries: Sequence[tuple[str, int, str]]) -> RenderableType:
    """Return what was left alone, each with its reason."""
    if not entries:
        return Group(Text(title, style="bold"), Text("  nothing\n"))
    table = NumberTable(title, "layer and reason", "size")
    for name, size, why in entries[:SHOWN]:
        table.add_row(_entry(name, [why]), str(size))
    if len(entries) <= SHOWN:
        return table
    return Group(table, Text(f"  ... and {len(entries) - SHOWN} more; --json has them all\n"))


def _entry(name: str, remarks: Iterable[str]) -> Group:
    """Return a name with indented remarks below it: long names and reasons need the whole width."""
    return Group(plain(name), *(Padding(plain(remark, "dim"), (0, 0, 0, 2)) for remark in remarks))


# -- the channel graph ------------------------------------------------------------------------------------------------


def show_graph(console: Console, analysis: Analysis, meaning: Meaning) -> None:
    """Print what can be cut, what cannot and why, and what the outputs mean."""
    rows = layer_rows(analysis)
    table = NumberTable("Layers that can be cut", "layer", "kind", "size", "parameters", "MACs")
    for row in rows:
        size = units_text(row["size"], row["parts"])
        table.add_row(
            _entry(row["name"], _remarks(row)), row["kind"], size, f"{row['parameters']:,}", f"{row['macs_share']:.1%}"
        )
    console.print(table if rows else Group(Text("Layers that can be cut", style="bold"), Text("  none\n")))
    frozen = [(frozen.name, frozen.size, frozen.reason) for frozen in analysis.graph.frozen]
    console.print(reasons("Left alone", frozen))
    console.print(Text("Outputs", style="bold"))
    for line in describe(meaning):
        console.print(plain(f"  {line}"))
    console.print()
    for note in analysis.unused_positions.notes:
        console.print(plain(f"note: {note}"))


def _remarks(row: LayerRow) -> list[str]:
    """Where else a layer is made (it is named after the first place), where it is used, and its grade."""
    remarks = [f"also made by {_some(row['made_by'][1:], row['name'])}"] if len(row["made_by"]) > 1 else []
    remarks.append(f"used by {_some(row['used_by'], row['name'])}")
    if row["grade"] != "exact":
        remarks.append(f"{row['grade']}: a normalisation runs over it")
    return remarks


def _some(names: Sequence[str], near: str) -> str:
    """Return the first of some names, seen from a near one, and how many more there are."""
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return (_seen_from(names[0], near) if names else "nothing") + more


def _seen_from(name: str, near: str) -> str:
    """Shorten the path that a name has in common with a near one."""
    path, other = name.split("/"), near.split("/")
    common = next((i for i, (a, b) in enumerate(zip(path[:-1], other, strict=False)) if a != b), len(path) - 1)
    return f".../{'/'.join(path[common:])}" if any(path[:common]) else name


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
