"""What `onnxmi inspect` prints: the whole model, what can be cut, what cannot and why, and what the outputs mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console, Group
from rich.text import Text

from onnxmi.budget.units import size_text
from onnxmi.graph.channel_graph import KINDS
from onnxmi.graph.layer_filter import DEFAULT_KINDS
from onnxmi.graph.layer_names import FEWEST, LONG, LayerNames, first_of_joined
from onnxmi.model import TensorInfo
from onnxmi.outputs.describe import describe
from onnxmi.outputs.view import Meaning
from onnxmi.reporting.json_data import LayerRow, layer_rows, totals_data
from onnxmi.reporting.tables import NumberTable, plain
from onnxmi.reporting.text import entry, reasons, units_text
from onnxmi.runtime.session import Feeds
from onnxmi.transforms.analysis import Analysis


def show_graph(console: Console, analysis: Analysis, meaning: Meaning) -> None:
    """Print what can be cut, what cannot and why, and what the outputs mean."""
    for line in (*_totals(analysis), ""):
        console.print(plain(line))
    called = LayerNames.of(analysis.graph)
    _show_layers(console, layer_rows(analysis))
    frozen = [(called[frozen.name], frozen.size, frozen.reason) for frozen in analysis.graph.frozen]
    console.print(reasons("Left alone", frozen))
    console.print(Text("Outputs", style="bold"))
    for line in describe(meaning):
        console.print(plain(f"  {line}"))
    console.print()
    for note in _notes(analysis, called):
        console.print(plain(f"note: {note}"))


def _totals(analysis: Analysis) -> Iterator[str]:
    totals = totals_data(analysis)
    yield f"{totals['parameters']:,} parameters, {size_text(totals['bytes'])}, {totals['macs']:,} MACs on these inputs:"
    yield from (f"  {_input_text(info, analysis.probe.feeds)}" for info in analysis.source.graph.inputs)


def _input_text(info: TensorInfo, feeds: Feeds) -> str:
    kind = "of no known type" if info.dtype is None else str(info.dtype)
    dims = "" if info.dims is None else f" ({', '.join('?' if dim is None else str(dim) for dim in info.dims)})"
    shape = f", run with {tuple(np.shape(feeds[info.name]))}" if info.name in feeds else ""
    return f"{info.name}: {kind}{dims}{shape}"


def _show_layers(console: Console, rows: Sequence[LayerRow]) -> None:
    if not rows:
        console.print(Group(Text("Layers that can be cut", style="bold"), Text("  none\n")))
        return
    table = NumberTable("Layers that can be cut", "# layer", "kind", "size", "parameters", "MACs")
    for row in rows:
        size, share = units_text(row["size"], row["parts"]), f"{row['macs_share']:.1%}"
        name = entry(f"{row['number']} {row['short_name']}", _remarks(row))
        table.add_row(name, row["kind"], size, f"{row['parameters']:,}", share)
    console.print(table)


def _notes(analysis: Analysis, called: LayerNames) -> Iterator[str]:
    yield from analysis.notes
    if analysis.graph.layers:
        others = ", ".join(kind for kind in KINDS if kind not in DEFAULT_KINDS)
        yield f"cut by default: {', '.join(DEFAULT_KINDS)}; only if --cut names them: {others}"
    if any(name != short for name, short in called.short.items()):
        yield "long names are shown by their ends; --skip and --only take these, too, and the numbers; --json has all"


def _remarks(row: LayerRow) -> list[str]:
    """Where else a layer is made (it is named after the first place), where it is used, and when it is cut."""
    remarks = [f"also made by {_some(row['made_by'][1:], row['name'])}"] if len(row["made_by"]) > 1 else []
    remarks.append(f"used by {_some(row['used_by'], row['name'])}")
    if row["grade"] != "exact":
        remarks.append(f"{row['grade']}: a normalization runs over it; cut only if --cut names {row['kind']}")
    elif not row["by_default"]:
        remarks.append(f"cut only if --cut names {row['kind']}")
    return remarks


def _some(names: Sequence[str], near: str) -> str:
    """Return the first of some names, seen from a near one, and how many more there are."""
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return (_seen_from(first_of_joined(names[0]), first_of_joined(near)) if names else "nothing") + more


def _seen_from(name: str, near: str) -> str:
    """Shorten the path that a name has in common with a near one, and what is still long."""
    path, other = name.split("/"), near.split("/")
    common = next((i for i, (a, b) in enumerate(zip(path[:-1], other, strict=False)) if a != b), len(path) - 1)
    seen = f".../{'/'.join(path[common:])}" if any(path[:common]) else name
    return seen if len(seen) <= LONG or len(path) <= FEWEST else f".../{'/'.join(path[-FEWEST:])}"
