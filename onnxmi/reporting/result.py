"""What `onnxmi prune` prints of a result: folded to what matters, or in full with `--verbose`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from onnxmi.budget.units import size_text, speed_text, time_text
from onnxmi.evaluation.output_metrics import MetricValue
from onnxmi.evaluation.yardstick import Part
from onnxmi.graph.channel_graph import Layer
from onnxmi.graph.layer_filter import DEFAULT_KINDS
from onnxmi.graph.layer_names import LayerNames
from onnxmi.pruning.outcome import Outcome
from onnxmi.reporting.blocks import LayerSize, fold
from onnxmi.reporting.contributions import show_contributions
from onnxmi.reporting.tables import NumberTable, Pairs, plain
from onnxmi.reporting.text import SHOWN, damage_text, reasons, units_text

METRICS_SHOWN = 3  # of an output, in full


def show_summary(console: Console, result: Outcome, *, full: bool = False) -> None:
    """Print what was cut, what each output loses, what was left alone and what else to know.

    Parameters
    ----------
    full : bool
        Every layer, metric and trial, instead of a line for each block, output and reason.
    """
    if full and result.trials:
        console.print(_trials(result))
    console.print(_summary(result))
    show_contributions(console, result)
    _show_outputs(console, result, METRICS_SHOWN if full else 1)
    console.print(_layers(result) if full else _blocks(result))
    console.print(_left_alone(result) if full else _left_alone_by_reason(result))
    for note in (*result.notes, *_repair_notes(result)):
        console.print(plain(f"note: {note}"))
    if result.peak_memory is not None:
        console.print(plain(f"peak memory of this run: {size_text(result.peak_memory)}"))


def _summary(result: Outcome) -> NumberTable:
    before, after = result.before, result.after
    table = NumberTable("Model", "", "before", "after", "")
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


def _add_counts(table: NumberTable, name: str, before: int, after: int) -> None:
    table.add_row(name, f"{before:,}", f"{after:,}", _ratio(before, after))


def _ratio(before: int, after: int) -> str:
    return f"x {after / before:.2f}" if before else ""


# -- layers ------------------------------------------------------------------------------------------------------------


def _blocks(result: Outcome) -> RenderableType:
    title = Text("Units kept", style="bold")
    blocks = fold(layer_sizes(result))
    rows = [(block.name, plain(block.text)) for block in blocks[:SHOWN]]
    more = f"  ... and {len(blocks) - SHOWN} more; --verbose lists every layer\n" if len(blocks) > SHOWN else ""
    return Group(title, Pairs(rows), Text(more))


def layer_sizes(result: Outcome) -> list[LayerSize]:
    """Return the layers that were cut, with their units over all parts."""
    parts = {layer.name: layer.parts for layer in result.analysis.graph.layers}
    return [
        LayerSize(own.layer, own.kind, own.size * parts[own.layer], own.count * parts[own.layer])
        for own in result.plan.choices
    ]


def _layers(result: Outcome) -> NumberTable:
    table = NumberTable("Layers that were cut", "layer", "kind", "before", "after")
    layers, called = {layer.name: layer for layer in result.analysis.graph.layers}, LayerNames.of(result.analysis.graph)
    for choice in result.plan.choices:
        layer = layers[choice.layer]
        table.add_row(
            plain(called[choice.layer]),
            layer.kind,
            units_text(choice.size, layer.parts),
            units_text(choice.count, layer.parts),
        )
    return table


def _left_alone_by_reason(result: Outcome) -> RenderableType:
    title = Text("Left alone", style="bold")
    names: dict[str, list[str]] = {}
    for name, _, why in _entries(result):
        names.setdefault(why, []).append(name)
    if not names:
        return Group(title, Text("  nothing\n"))
    lines = [plain(f"  {_some(own)}: {why}") for why, own in names.items()]
    more = f"  ... and {len(lines) - SHOWN} more reasons; --json has them all\n" if len(lines) > SHOWN else ""
    return Group(title, *lines[:SHOWN], Text(more))


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} axes ({names[0]}, ...)"


def _left_alone(result: Outcome) -> RenderableType:
    return reasons("Left alone", list(_entries(result)))


def _entries(result: Outcome) -> Iterator[tuple[str, int, str]]:
    """Yield what was left alone: name as shown, size and reason."""
    called = LayerNames.of(result.analysis.graph)
    for name, size, why in _all_left_alone(result):
        yield called[name], size, why


def _all_left_alone(result: Outcome) -> Iterator[tuple[str, int, str]]:
    yield from ((layer.name, layer.units, _why_left_out(layer, result)) for layer in result.left_out)
    yield from ((layer.name, layer.units, "kept whole") for layer in result.kept_whole)
    yield from ((frozen.name, frozen.size, frozen.reason) for frozen in result.analysis.graph.frozen)


def _why_left_out(layer: Layer, result: Outcome) -> str:
    if layer in result.unseen:
        return "no compared output depends on it"
    if layer in result.idle:
        return "it is in a branch that no sample takes"
    kinds = result.plan.options.get("cut") or DEFAULT_KINDS
    if layer.kind in kinds and layer.grade != "exact" and not result.plan.options.get("cut"):
        return f"a normalization runs over it: cut only if --cut names {layer.kind}"
    if layer.kind in kinds:
        return "excluded by --skip or --only"
    return f"layers of kind {layer.kind} are cut only if --cut names them"


def _repair_notes(result: Outcome) -> list[str]:
    unused = Counter(note.reason for note in result.repairs if not note.used)
    return [f"{count} of {len(result.repairs)} operators were not repaired: {why}" for why, count in unused.items()]


# -- outputs -----------------------------------------------------------------------------------------------------------


def _show_outputs(console: Console, result: Outcome, metrics: int) -> None:
    """Print of every output what it is, how much of it is lost, and what it loses of the metrics that fit it."""
    if result.quality is None:
        return
    lines = [Text("Outputs *", style="bold")]
    for part in result.damage.parts:
        lines.append(plain(f"  {part.view.name} ({part.view.kind}): {_damage(part)}"))
        lines.extend(plain(f"    {_reading(one)}") for one in result.readings.get(part.view.name, ())[:metrics])
    names = {part.view.name for part in result.damage.parts}
    for name, readings in result.readings.items():
        if name not in names:
            lines.append(plain(f"  {name} together"))
            lines.extend(plain(f"    {_reading(one)}") for one in readings[:metrics])
    for line in lines:
        console.print(line)
    console.print(
        f"* on {result.quality.samples} test samples, which nothing was fitted to or chosen on\n", highlight=False
    )


def _damage(part: Part) -> str:
    worst = "" if part.column is None else f", worst column ({part.column}) {damage_text(part.worst)}"
    return f"damage {damage_text(part.error)}{worst}"


def _reading(reading: MetricValue) -> str:
    return f"{reading.metric} {reading.was:.4f} -> {reading.now:.4f}: {reading.loss.text}"


def _trials(result: Outcome) -> RenderableType:
    table = NumberTable("Trials", "repair", "cost aimed at", "points lost *", "expected", "damage", "")
    for trial in result.trials:
        error = "" if trial.error is None else f" ± {trial.error:.4f}"
        worst = damage_text(trial.damage)
        fits = "fits" if trial.fits else ""
        table.add_row(
            trial.repair, f"x {trial.share:.2f}", f"{trial.drop:.4f}{error}", f"{trial.expected:.4f}", worst, fits
        )
    return Group(table, Text("* on search samples, which the result is not reported on\n"))
