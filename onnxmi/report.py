"""What a run found, as plain data for `--json` and as tables for people."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxmi.cost import hanging
from onnxmi.pipeline import Analysis, Result

SHOWN = 12  # rows of a long list that the terminal shows; --json has all


def result_data(result: Result) -> dict[str, Any]:
    """Everything a run found, for machines."""
    graph = result.analysis.graph
    sizes = {layer.name: layer for layer in graph.layers}
    return {
        "before": vars(result.before),
        "after": vars(result.after),
        "latency_ms": _latency_data(result),
        "quality": None if result.quality is None else vars(result.quality),
        "layers": [
            {
                "name": choice.layer,
                "kind": choice.kind,
                "before": choice.size * sizes[choice.layer].parts,
                "after": int(choice.kept.size),
                "parts": sizes[choice.layer].parts,
            }
            for choice in result.plan.choices
        ],
        "left_out": [layer.name for layer in result.left_out],
        "frozen": [vars(frozen) for frozen in graph.frozen],
        "repair": [vars(note) for note in result.repairs],
        "checks": [vars(check) for check in result.checks],
        "notes": list(result.notes),
    }


def _latency_data(result: Result) -> dict[str, Any] | None:
    if result.latency is None:
        return None
    before, after = result.latency
    return {
        "before": {"median": before.median, "spread": before.spread},
        "after": {"median": after.median, "spread": after.spread},
        "speedup": after.speedup_over(before),
    }


def show_result(console: Console, result: Result) -> None:
    """Print the summary tables."""
    console.print(_summary(result))
    console.print(_layers(result))
    console.print(_left_alone(result))
    for note in (*result.notes, *_repair_notes(result)):
        console.print(Text(f"note: {note}"))


def _summary(result: Result) -> Table:
    table = Table(title="Model", title_justify="left")
    for heading, justify in (("", "left"), ("before", "right"), ("after", "right"), ("ratio", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    before, after = result.before, result.after
    table.add_row(
        "parameters", f"{before.parameters:,}", f"{after.parameters:,}", _ratio(before.parameters, after.parameters)
    )
    table.add_row("file size", _bytes(before.size), _bytes(after.size), _ratio(before.size, after.size))
    table.add_row("MACs a sample", f"{before.macs:,}", f"{after.macs:,}", _ratio(before.macs, after.macs))
    if result.latency is not None:
        a, b = result.latency
        table.add_row(
            "latency, one sample", _ms(a.median, a.spread), _ms(b.median, b.spread), f"{b.speedup_over(a):.2f}x faster"
        )
    _quality_rows(table, result)
    return table


def _quality_rows(table: Table, result: Result) -> None:
    quality = result.quality
    if quality is None:
        return
    where = f"{quality.samples} samples not used for fitting"
    if quality.agreement is not None:
        table.add_row(f"agreement with the original\n({where})", "", f"{quality.agreement:.4f}", "")
    table.add_row("relative error of the output", "", f"{quality.relative_error:.4f}", "")
    if quality.accuracy is not None and quality.original_accuracy is not None:
        change = quality.accuracy - quality.original_accuracy
        table.add_row(
            "accuracy (labels)", f"{quality.original_accuracy:.4f}", f"{quality.accuracy:.4f}", f"{change:+.4f}"
        )


def _layers(result: Result) -> Table:
    table = Table(title="Layers", title_justify="left")
    for heading in ("layer", "kind"):
        table.add_column(heading, overflow="fold")
    for heading in ("before", "after"):
        table.add_column(heading, justify="right")
    for row in result_data(result)["layers"]:
        parts = f" in {row['parts']}" if row["parts"] > 1 else ""
        table.add_row(Text(row["name"]), row["kind"], f"{row['before']}{parts}", f"{row['after']}{parts}")
    return table


def _left_alone(result: Result) -> RenderableType:
    graph = result.analysis.graph
    cut = {choice.layer for choice in result.plan.choices}
    out = {layer.name for layer in result.left_out}
    rows = [(layer.name, str(layer.units), "left out by --skip/--only") for layer in result.left_out]
    rows += [(layer.name, str(layer.units), "kept whole") for layer in graph.layers if layer.name not in cut | out]
    return _reasons("Left alone", rows + [(f.name, str(f.size), f.reason) for f in graph.frozen])


def _reasons(title: str, rows: list[tuple[str, str, str]]) -> RenderableType:
    if not rows:
        return Text(f"{title}: nothing")
    table = Table(title=title, title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("why", overflow="fold")
    for name, size, why in rows[:SHOWN]:
        table.add_row(Text(name), size, Text(why))
    if len(rows) <= SHOWN:
        return table
    return Group(table, Text(f"... and {len(rows) - SHOWN} more; --json has them all"))


def _repair_notes(result: Result) -> list[str]:
    unused = Counter(note.reason for note in result.repairs if not note.used)
    return [f"{count} of {len(result.repairs)} operators were not repaired: {why}" for why, count in unused.items()]


def _ratio(before: int, after: int) -> str:
    return f"{after / before:.3f}" if before else ""


def _bytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _ms(median: float, spread: float) -> str:
    return f"{median:.3f} ms ± {spread:.3f}"


def graph_data(analysis: Analysis) -> dict[str, Any]:
    """The channel graph, for machines."""
    return {
        "layers": layer_rows(analysis),
        "frozen": [vars(frozen) for frozen in analysis.graph.frozen],
        "model": {"sha256": analysis.model.digest, "bytes": analysis.model.size},
    }


def layer_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """One row a layer: size, grade, where it is made and used, and what hangs on it."""
    nodes = analysis.model.graph.nodes
    weight = hanging(analysis.model.graph, analysis.graph, analysis.seen.shapes)
    return [
        {
            "name": layer.name,
            "kind": layer.kind,
            "size": layer.size,
            "parts": layer.parts,
            "grade": layer.grade,
            "made_by": [nodes[node].label for node in layer.makers],
            "used_by": [nodes[node].label for node in layer.users],
            "parameters": weight[layer.id].parameters,
            "macs": weight[layer.id].macs,
        }
        for layer in analysis.graph.layers
    ]


def show_graph(console: Console, analysis: Analysis) -> None:
    """Print the channel graph."""
    table = Table(title="Layers that can be cut", title_justify="left")
    for heading, justify in _COLUMNS:
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in layer_rows(analysis):
        parts = f" in each of {row['parts']}" if row["parts"] > 1 else ""
        table.add_row(
            Text(row["name"]),
            row["kind"],
            f"{row['size']}{parts}",
            row["grade"],
            f"{row['parameters']:,}",
            f"{row['macs']:,}",
            Text(_some(row["made_by"])),
            Text(_some(row["used_by"])),
        )
    console.print(table)
    console.print(_reasons("Frozen", [(f.name, str(f.size), f.reason) for f in analysis.graph.frozen]))


_COLUMNS = (
    ("layer", "left"),
    ("kind", "left"),
    ("size", "right"),
    ("grade", "left"),
    ("parameters", "right"),
    ("MACs", "right"),
    ("made by", "left"),
    ("used by", "left"),
)


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")
