"""What is drawn of a run: each drawing with its description, its caption and the numbers in it as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from matplotlib.figure import Figure

from onnxmi.reporting.html import figures
from onnxmi.reporting.html.curve import Curve, Point
from onnxmi.reporting.html.figures import COLUMNS, Axis, Bar, Growth
from onnxmi.reporting.html.reading import LayerCut, RepairRow, Run
from onnxmi.reporting.html.svg import inline
from onnxmi.reporting.html.wording import NOTHING, amount, counted, decimal, percent, speed

ROWS = 16  # bars in one drawing: several stand side by side where there is room
PANELS = 8  # small panels in one drawing
SHARES = ("accuracy", "agreement", "same top answer")  # metrics that are shares
MOST_PANELS = 48  # layers whose growth is drawn: those with most units

T = TypeVar("T")
Cells = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """A drawing on the page.

    Attributes
    ----------
    svg : str
        The element, safe to be put into a page as it is.
    caption : str
        What is to be seen.
    """

    svg: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Numbers for who cannot see a drawing, or wants to know exactly.

    Attributes
    ----------
    caption : str
        What they are.
    headings : tuple of str
        The first column holds names, the others numbers.
    rows : tuple of tuples of str
        As many cells each as there are headings.
    """

    caption: str
    headings: tuple[str, ...]
    rows: Cells


@dataclass(frozen=True)
class Group:
    """Drawings of one kind with their table."""

    plots: tuple[Plot, ...]
    table: Table


def _plot(drawn: Figure, name: str, title: str, description: str, caption: str = "") -> Plot:
    return Plot(inline(drawn, name, title, description), caption or title)


def _chunks(items: Sequence[T], size: int, step: int = 1) -> Iterator[Sequence[T]]:
    """Divide evenly into parts of at most a size, an even number of them unless there is little to divide.

    Two drawings stand side by side where there is room. But for the last, parts have a multiple of `step` items.
    """
    count = -(-len(items) // size)
    if len(items) >= 6:
        count += count % 2
    each = -(-len(items) // (count * step)) * step if count else 1
    yield from (items[start : start + each] for start in range(0, len(items), each))


def summary(run: Run) -> Group | None:
    """What is left of what the model costs."""
    rows = [(found, found.left) for found in run.quantities if found.left is not None]
    if not rows:
        return None
    longest = max(1.0, *(left for _, left in rows))
    drawn = [
        Bar(found.name, f"{percent(left)} of {amount(found.before, found.unit)}", 1.0 / longest, left / longest)
        for found, left in rows
    ]
    told = "; ".join(f"{found.name}: {percent(left)} of the original's" for found, left in rows)
    plot = _plot(figures.bars(drawn), "left", "What is left of the original", f"{told}.")
    cells = tuple(_quantity_cells(run))
    return Group((plot,), Table("The model before and after", ("quantity", "before", "after", "left"), cells))


def _quantity_cells(run: Run) -> Iterator[tuple[str, ...]]:
    for found in run.quantities:
        spelled = [amount(value, found.unit) for value in (found.before, found.after)]
        shown = [text if spread is None else f"{text[:-3]} ±\N{NO-BREAK SPACE}{amount(spread, found.unit)}"
                 for text, spread in zip(spelled, found.spread, strict=True)]  # fmt: skip
        yield (found.name, *shown, percent(found.left))
    seen = run.agreement
    if seen.accuracy is not None:
        yield ("accuracy", decimal(seen.original_accuracy), decimal(seen.accuracy), "")
    if seen.agreement is not None:
        yield ("same top answer", "", decimal(seen.agreement), "")
    if seen.relative_error is not None:
        yield ("error of the output", "", decimal(seen.relative_error), "")


# -- layers -----------------------------------------------------------------------------------------------------------


def layers(run: Run) -> Group | None:
    """Kept and cut, layer by layer; the first drawing is an overview where there are more layers than fit in one."""
    if not run.layers:
        return None
    longest: dict[str, int] = {}
    for layer in run.layers:
        longest[layer.kind] = max(longest.get(layer.kind, 0), layer.before)
    plots = [_layer_bars(chunk, place, longest) for place, chunk in enumerate(_chunks(run.layers, ROWS))]
    if len(run.layers) > 2 * ROWS:
        plots.insert(0, _overview(run.layers))
    cells = tuple(
        (layer.name, layer.kind, str(layer.parts), f"{layer.before:,}", f"{layer.after:,}",
         f"{layer.before - layer.after:,}", percent(layer.after / layer.before))
        for layer in run.layers
    )  # fmt: skip
    headings = ("layer", "kind", "parts", "before", "kept", "cut", "share kept")
    return Group(tuple(plots), Table("Units of every layer that was cut", headings, cells))


def _layer_bars(chunk: Sequence[LayerCut], place: int, longest: Mapping[str, int]) -> Plot:
    """Draw each kind at a scale of its own: a dozen heads beside thousands of units would not be seen."""
    rows = [
        Bar(
            layer.name,
            f"{layer.after:,} of {layer.before:,}",
            layer.before / longest[layer.kind],
            layer.after / longest[layer.kind],
        )
        for layer in chunk
    ]
    title = f"Units kept and cut in {counted(len(chunk), 'layer')}"
    told = "; ".join(f"{row.name}: {row.text}" for row in rows)
    return _plot(figures.bars(rows), f"layers{place}", title, f"Kept: {told}.")


def _overview(found: Sequence[LayerCut]) -> Plot:
    before, after = [layer.before for layer in found], [layer.after for layer in found]
    shares = [layer.after / layer.before for layer in found]
    told = (
        f"{len(found)} layers with {min(before):,} to {max(before):,} units, of which {percent(min(shares))} to "
        f"{percent(max(shares))} stay; {sum(after):,} of {sum(before):,} in all."
    )
    return _plot(figures.widths(before, after), "widths", "Units kept and cut, from the input to the output", told)


# -- information ------------------------------------------------------------------------------------------------------


def unit_of(score: str) -> str:
    """What gains are counted in."""
    return "nats" if score in ("", "joint") else "score"


def growth(run: Run) -> Group | None:
    """What the first k units of each layer tell together about what is kept above it."""
    found = [layer for layer in run.layers if layer.gains]
    if not found:
        return None
    unit = unit_of(run.score)
    largest = sorted(found, key=lambda layer: -layer.before)[:MOST_PANELS]
    drawn = [layer for layer in found if layer in largest]
    plots = [_growth_panels(chunk, place, unit) for place, chunk in enumerate(_chunks(drawn, PANELS, COLUMNS))]
    cells = tuple((layer.name, str(len(layer.gains)), *_milestones(layer.gains)) for layer in found)
    headings = ("layer", "units ranked", "after a quarter", "after half", "after all", "first unit", "last unit")
    return Group(tuple(plots), Table(f"What the units tell, in {unit}", headings, cells))


def _growth_panels(chunk: Sequence[LayerCut], place: int, unit: str) -> Plot:
    panels = [Growth(layer.name, layer.gains, _kept(layer)) for layer in chunk]
    told = "; ".join(
        f"{layer.name}: {decimal(sum(layer.gains), 2)} {unit} with {counted(len(layer.gains), 'unit')}"
        for layer in chunk
    )
    title = f"{unit.capitalize()} against the number of units k, {counted(len(chunk), 'layer')}"
    return _plot(figures.growth(panels, unit), f"growth{place}", title, f"{told}.")


def _kept(layer: LayerCut) -> int:
    """Where on its curve a layer was cut."""
    return min(layer.after, len(layer.gains))


def _milestones(gains: tuple[float, ...]) -> Iterator[str]:
    totals = list(accumulate(gains))
    for share in (0.25, 0.5, 1.0):
        yield decimal(totals[max(round(share * len(totals)), 1) - 1], 3)
    yield decimal(gains[0], 3)
    yield decimal(gains[-1], 3)


# -- repair -----------------------------------------------------------------------------------------------------------


def repairs(run: Run) -> Group | None:
    """How far each operator was off after the cut, and after its repair."""
    if not run.repairs:
        return None
    found = [row for row in run.repairs if row.used and row.plain is not None and row.repaired is not None]
    longest = max((row.plain for row in found if row.plain), default=1.0)
    drawn = [_repair_bar(row, longest) for row in found]
    plots = [_repair_bars(chunk, place) for place, chunk in enumerate(_chunks(drawn, ROWS))]
    cells = tuple(
        (
            row.operator,
            decimal(row.plain),
            decimal(row.repaired),
            "repaired" if row.used else row.reason or "left as cut",
        )
        for row in run.repairs
    )
    headings = ("operator", "error after the cut", "after repair", "outcome")
    caption = "Squared error of each operator's outputs relative to their variance, on samples it was not fitted to"
    return Group(tuple(plots), Table(caption, headings, cells))


def repaired_sentence(run: Run) -> str:
    """Say in one sentence what repair did; nothing where nothing was repaired."""
    pairs = [(row.plain, row.repaired) for row in run.repairs if row.used]
    known = [(plain, repaired) for plain, repaired in pairs if plain is not None and repaired is not None]
    if not known:
        return ""
    before, after = (sum(column) / len(known) for column in zip(*known, strict=True))
    return f"{counted(len(known), 'operator')} refitted: mean error {decimal(before, 3)} → {decimal(after, 3)}"


def _repair_bar(row: RepairRow, longest: float) -> Bar:
    text = f"{decimal(row.plain, 3)} → {decimal(row.repaired, 3)}"
    return Bar(row.operator, text, (row.plain or 0.0) / longest, (row.repaired or 0.0) / longest)


def _repair_bars(chunk: Sequence[Bar], place: int) -> Plot:
    told = "; ".join(f"{row.name}: {row.text}" for row in chunk)
    title = f"Errors of {counted(len(chunk), 'operator')} after the cut and after repair"
    return _plot(figures.bars(chunk), f"repairs{place}", title, f"{told}.")


# -- trade-off --------------------------------------------------------------------------------------------------------

_ACROSS: tuple[tuple[str, Callable[[Point], float | None], Axis], ...] = (
    ("MACs", lambda point: point.macs, Axis("multiply-accumulates left", share=True)),
    ("share", lambda point: point.share, Axis("share of the cost aimed at", share=True)),  # where MACs were not counted
    ("size", lambda point: point.size, Axis("file size left", share=True)),
    ("speed", lambda point: point.speedup, Axis("speed-up over the original", share=False)),
)


def trade_off(curve: Curve | None) -> Group | None:
    """Quality against what each model costs, once for every cost that is known of two or more."""
    if curve is None:
        return None
    share = curve.metric in SHARES
    plots = []
    for name, value, across in _ACROSS:
        known = [(x, point.quality) for point in curve.points if (x := value(point)) is not None]
        points = sorted((x, y) for x, y in known if y is not None)
        if len(points) < 2:
            continue
        here = _place(curve.here, value)
        drawn = figures.trade_off(points, across, Axis(curve.metric, share), curve.dense, here, joined=curve.joined)
        told = "; ".join(f"{_x(x, across)}: {_y(y, share=share)}" for x, y in points)
        title = f"{curve.metric.capitalize()} against {across.label}"
        plots.append(_plot(drawn, f"trade-{name.lower()}", title, f"{told}."))
    cells = tuple(_point_cells(point, share=share) for point in (*curve.points, *filter(None, [curve.here])))
    headings = ("model", "parameters left", "size left", "MACs left", "latency", curve.metric)
    return Group(tuple(plots), Table("Every model on the curve", headings, cells)) if cells else None


def _place(point: Point | None, value: Callable[[Point], float | None]) -> tuple[float, float] | None:
    x = None if point is None else value(point)
    return None if point is None or x is None or point.quality is None else (x, point.quality)


def _x(value: float, axis: Axis) -> str:
    return percent(value) if axis.share else f"{value:.2f} times"


def _y(value: float | None, *, share: bool) -> str:
    return percent(value) if share else decimal(value)


def _point_cells(point: Point, *, share: bool) -> tuple[str, ...]:
    costs: Iterable[float | None] = (point.parameters, point.size, point.macs)
    return (point.label or NOTHING, *map(percent, costs), speed(point.speedup), decimal(point.quality))
