"""What `onnxmi diff` found: tables for people, and plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from onnxmi.budget.units import size_text
from onnxmi.gate.difference import Difference, TensorChanges
from onnxmi.reporting.gate import output_lines_of, outputs_data
from onnxmi.reporting.tables import NumberTable, plain
from onnxmi.reporting.text import SHOWN

_TENSOR_WORDS = {
    "same": "the same",
    "values": "with other values",
    "shape": "with another shape or type",
    "gone": "gone",
    "new": "new",
}


def show_difference(console: Console, found: Difference, *, everything: bool = False) -> None:
    """Print what is different; long lists are cut unless everything is wanted."""
    console.print(plain(f"{found.names[0]} -> {found.names[1]}", "bold"))
    if found.is_empty:
        console.print(Text("  no difference in interface, layers, operators or stored tensors\n"))
    console.print(_costs(found))
    _show_list(
        console, "Interface", list(found.interface) or ["unchanged: the same inputs and outputs"], everything=everything
    )
    if found.layers:
        console.print(_layers(found, everything=everything))
    _show_list(console, "Operators", list(_operator_lines(found)) or ["the same numbers of all"], everything=everything)
    console.print(Text("Stored tensors", style="bold"))
    console.print(plain(f"  {_tensor_text(found.tensors)}"))
    console.print()
    _show_list(console, "Outputs", [*_distance_lines(found), *_metric_lines(found)], everything=everything)
    for note in found.notes:
        console.print(plain(f"note: {note}"))


def difference_data(found: Difference) -> dict[str, Any]:
    """Return everything that was found, as plain data: bytes, counts, and metrics as `check --json` has them."""
    return {
        "models": list(found.names),
        "empty": found.is_empty,
        "interface": list(found.interface),
        "costs": [asdict(cost) for cost in found.costs],
        "layers": [asdict(change) for change in found.layers],
        "same_layers": found.same_layers,
        "operators": {kind: list(counts) for kind, counts in found.operators.items()},
        "tensors": asdict(found.tensors),
        "distances": [asdict(distance) for distance in found.distances],
        "outputs": [] if found.compared is None else outputs_data(found.compared.outputs),
        "lost": [] if found.compared is None else list(found.compared.lost),
        "notes": list(found.notes),
    }


def _costs(found: Difference) -> NumberTable:
    table = NumberTable("", "", "before", "after", "change")
    before, after = found.costs
    rows = (
        ("file", before.size, after.size, size_text),
        ("parameters", before.parameters, after.parameters, "{:,}".format),
        ("MACs a sample", before.macs, after.macs, "{:,}".format),
    )
    for name, old, new, show in rows:
        table.add_row(plain(name), show(old), show(new), f"{(new - old) / old:+.1%}" if old and new != old else "")
    return table


def _layers(found: Difference, *, everything: bool) -> NumberTable:
    table = NumberTable(f"Layers that differ ({found.same_layers} do not)", "layer", "kind", "before", "after")
    shown = found.layers if everything else found.layers[:SHOWN]
    for change in shown:
        sizes = ("-" if size is None else f"{size:,}" for size in (change.before, change.after))
        table.add_row(plain(change.name), change.kind, *sizes)
    if len(shown) < len(found.layers):
        table.add_row(plain(f"... and {len(found.layers) - len(shown)} more (-v)"), "", "", "")
    return table


def _show_list(console: Console, title: str, lines: list[str], *, everything: bool) -> None:
    if not lines:
        return
    console.print(Text(title, style="bold"))
    shown = lines if everything else lines[:SHOWN]
    for line in shown:
        console.print(plain(f"  {line}"))
    if len(shown) < len(lines):
        console.print(Text(f"  ... and {len(lines) - len(shown)} more (-v)"))
    console.print()


def _operator_lines(found: Difference) -> Iterator[str]:
    for kind, (before, after) in found.operators.items():
        yield f"{kind}: {before} -> {after}"


def _tensor_text(tensors: TensorChanges) -> str:
    counts: Mapping[str, int] = asdict(tensors)
    return ", ".join(f"{count} {_TENSOR_WORDS[kind]}" for kind, count in counts.items() if count) or "none"


def _distance_lines(found: Difference) -> Iterator[str]:
    for distance in found.distances:
        if distance.relative is None or distance.largest is None:
            yield f"{distance.name}: of another shape, or no numbers"
            continue
        yield f"{distance.name}: relative distance {distance.relative:.2e}, largest difference {distance.largest:.2e}"


def _metric_lines(found: Difference) -> Iterator[str]:
    if found.compared is not None:
        yield from output_lines_of(found.compared.outputs)
        yield from found.compared.lost
