"""What a run found, as tables for people. `onnxmi.reporting.json_data` has the same for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onnxmi.budget.goals import Goal, option
from onnxmi.budget.units import BYTES, FACTOR, MILLISECONDS, POINTS, SHARE, Unit, size_text, speed_text, time_text
from onnxmi.evaluation.output_metrics import MetricValue
from onnxmi.evaluation.yardstick import Part
from onnxmi.graph.channel_graph import Layer
from onnxmi.graph.layer_filter import DEFAULT_KINDS
from onnxmi.outputs.describe import describe
from onnxmi.outputs.view import Meaning
from onnxmi.pruning.outcome import Outcome
from onnxmi.pruning.sweep import TradeOff
from onnxmi.reporting.json_data import LayerRow, layer_rows
from onnxmi.transforms.analysis import Analysis

SHOWN = 12  # entries of a long list that the terminal shows; --json has all
METRICS_SHOWN = 3  # of an output


def printable(text: str) -> str:
    """Escape what a terminal would obey or could not show: names come from files."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain(text: str, style: str = "") -> Text:
    """Text that is printed as it is: no markup, no control characters."""
    return Text(printable(text), style=style, overflow="fold")


def number_table(title: str, *columns: str) -> Table:
    """Make a table whose first column is text and whose others are numbers, with no lines to break at 80 columns."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0], overflow="fold")
    for heading in columns[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def show_summary(console: Console, result: Outcome) -> None:
    """Print everything that `onnxmi prune` prints of a result."""
    show_budget(console, result)
    show_outputs(console, result)
    show_result(console, result)


def show_result(console: Console, result: Outcome) -> None:
    """Print what was cut, what it gains and costs, and what was left alone and why."""
    console.print(_summary(result))
    console.print(_cut(result))
    console.print(_left_alone(result))
    for note in (*result.notes, *_repair_notes(result)):
        console.print(plain(f"note: {note}"))


# -- the summary ------------------------------------------------------------------------------------------------------


def _summary(result: Outcome) -> Table:
    before, after = result.before, result.after
    table = number_table("Model", "", "before", "after", "")
    _add_counts(table, "parameters", before.parameters, after.parameters)
    table.add_row("file size", size_text(before.size), size_text(after.size), _ratio(before.size, after.size))
    _add_counts(table, "MACs a sample", before.macs, after.macs)
    if result.latency is not None:
        was, now = result.latency
        table.add_row(
            "latency, one sample",
            *(time_text(time.median, time.spread) for time in (was, now)),
            speed_text(now.speedup_over(was)),
        )
    return table


def _add_counts(table: Table, name: str, before: int, after: int) -> None:
    table.add_row(name, f"{before:,}", f"{after:,}", _ratio(before, after))


def _ratio(before: int, after: int) -> str:
    return f"x {after / before:.2f}" if before else ""


# -- the layers -------------------------------------------------------------------------------------------------------


def _cut(result: Outcome) -> Table:
    table = number_table("Layers that were cut", "layer", "kind", "before", "after")
    layers = {layer.name: layer for layer in result.analysis.graph.layers}
    for choice in result.plan.choices:
        layer = layers[choice.layer]
        table.add_row(
            plain(choice.layer), layer.kind, _size(choice.size, layer.parts), _size(choice.count, layer.parts)
        )
    return table


def _size(size: int, parts: int) -> str:
    return f"{parts} x {size}" if parts > 1 else str(size)


def _left_alone(result: Outcome) -> RenderableType:
    graph = result.analysis.graph
    cut = {choice.layer for choice in result.plan.choices}
    out = {layer.name for layer in result.left_out}
    entries = [(layer.name, layer.units, _why_left_out(layer, result)) for layer in result.left_out]
    entries += [(layer.name, layer.units, "kept whole") for layer in graph.layers if layer.name not in cut | out]
    return _reasons("Left alone", [*entries, *((frozen.name, frozen.size, frozen.reason) for frozen in graph.frozen)])


def _why_left_out(layer: Layer, result: Outcome) -> str:
    if layer in result.unseen:
        return "no compared output depends on it"
    kinds = result.plan.options.get("cut") or DEFAULT_KINDS
    if layer.kind in kinds and layer.grade != "exact" and not result.plan.options.get("cut"):
        return f"a normalization runs over it: cut only if --cut names {layer.kind}"
    if layer.kind in kinds:
        return "excluded by --skip or --only"
    return f"layers of kind {layer.kind} are cut only if --cut names them"


def _reasons(title: str, entries: Sequence[tuple[str, int, str]]) -> RenderableType:
    if not entries:
        return Group(Text(title, style="bold"), Text("  nothing\n"))
    table = number_table(title, "layer and reason", "size")
    for name, size, why in entries[:SHOWN]:
        table.add_row(_entry(name, [why]), str(size))
    if len(entries) <= SHOWN:
        return table
    return Group(table, Text(f"  ... and {len(entries) - SHOWN} more; --json has them all\n"))


def _entry(name: str, remarks: Iterable[str]) -> Group:
    """Return a name with indented remarks below it: long names and reasons need the whole width."""
    return Group(plain(name), *(Padding(plain(remark, "dim"), (0, 0, 0, 2)) for remark in remarks))


def _repair_notes(result: Outcome) -> list[str]:
    unused = Counter(note.reason for note in result.repairs if not note.used)
    return [f"{count} of {len(result.repairs)} operators were not repaired: {why}" for why, count in unused.items()]


# -- the channel graph ------------------------------------------------------------------------------------------------


def show_graph(console: Console, analysis: Analysis, meaning: Meaning) -> None:
    """Print what can be cut, what cannot and why, and what the outputs mean."""
    rows = layer_rows(analysis)
    table = number_table("Layers that can be cut", "layer", "kind", "size", "parameters", "MACs")
    for row in rows:
        size = _size(row["size"], row["parts"])
        table.add_row(
            _entry(row["name"], _remarks(row)), row["kind"], size, f"{row['parameters']:,}", f"{row['macs_share']:.1%}"
        )
    console.print(table if rows else Group(Text("Layers that can be cut", style="bold"), Text("  none\n")))
    frozen = [(frozen.name, frozen.size, frozen.reason) for frozen in analysis.graph.frozen]
    console.print(_reasons("Left alone", frozen))
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


def show_outputs(console: Console, result: Outcome) -> None:
    """Print of every output what it is, how much of it is lost, and what it loses of the metrics that fit it."""
    if result.quality is None:
        return
    lines = [Text("Outputs *", style="bold")]
    for part in result.damage.parts:
        lines.append(plain(f"  {part.view.name} ({part.view.kind}): {_damage(part)}"))
        lines.extend(plain(f"    {_reading(one)}") for one in result.readings.get(part.view.name, ())[:METRICS_SHOWN])
    names = {part.view.name for part in result.damage.parts}
    for name, readings in result.readings.items():
        if name not in names:
            lines.append(plain(f"  {name} together"))
            lines.extend(plain(f"    {_reading(one)}") for one in readings[:METRICS_SHOWN])
    for line in lines:
        console.print(line)
    console.print(
        f"* on {result.quality.samples} test samples, which nothing was fitted to or chosen on\n", highlight=False
    )


def _damage(part: Part) -> str:
    worst = "" if part.column is None else f", worst column ({part.column}) {part.worst:.2%}"
    return f"damage {part.error:.2%}{worst}"


def _reading(reading: MetricValue) -> str:
    return f"{reading.metric} {reading.was:.4f} -> {reading.now:.4f}: {reading.loss.text}"


_UNITS: Mapping[str, Unit] = {
    "max_size": BYTES,
    "params": SHARE,
    "macs": SHARE,
    "speedup": FACTOR,
    "max_latency": MILLISECONDS,
    "max_drop": POINTS,
}


def show_budget(console: Console, result: Outcome) -> None:
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


def _goals(result: Outcome) -> RenderableType:
    table = number_table("Budget", "", "asked", "reached", "")
    for goal in result.goals:
        shown = _UNITS[goal.name].show
        name = f"{option(goal.name)} ({printable(result.metric)}) *" if goal.name == "max_drop" else option(goal.name)
        table.add_row(name, _bound(goal) + shown(goal.asked), shown(goal.reached), _verdict(goal))
    return table


def _verdict(goal: Goal) -> str:
    return "undecided" if goal.undecided else "met" if goal.met else "MISSED"


def _bound(goal: Goal) -> str:
    return ">= " if goal.name == "speedup" else "<= "


def _trials(result: Outcome) -> RenderableType:
    table = number_table("Trials", "repair", "cost aimed at", "points lost *", "of the worst output", "")
    for trial in result.trials:
        error = "" if trial.error is None else f" ± {trial.error:.4f}"
        worst = f"{trial.damage:.2%}"
        row = trial.repair, f"x {trial.share:.2f}", f"{trial.drop:.4f}{error}", worst, "fits" if trial.fits else ""
        table.add_row(*row)
    return Group(table, Text("* on search samples, which the result is not reported on\n"))


def show_curve(console: Console, curve: TradeOff) -> None:
    """Print a trade-off, a line a model."""
    metric = printable(curve.metric)
    columns = (curve.by, "size", "MACs", "one run", "speed-up", f"{metric} *", "lost *")
    table = number_table("Trade-off", *columns)
    table.columns[0].no_wrap = True
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
