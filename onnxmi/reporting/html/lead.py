"""The drawings that a page begins with: the trade-off and the network, each for a wide and a narrow page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from onnxmi.evaluation.loss import NORMAL
from onnxmi.reporting.blocks import Block, LayerSize, fold
from onnxmi.reporting.html import hero, network
from onnxmi.reporting.html.curve import Curve, Point
from onnxmi.reporting.html.hero import Mark, TradeOffChart
from onnxmi.reporting.html.reading import Run
from onnxmi.reporting.html.svg import WIDTH, inline
from onnxmi.reporting.html.wording import percent

WIDE = 860.0  # px of a drawing on a desktop
_TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Lead:
    """A drawing in two widths, of which the style sheet shows one.

    Attributes
    ----------
    wide, narrow : str
        The elements, safe to be put into a page as they are.
    caption : str
        What is to be seen.
    """

    wide: str
    narrow: str
    caption: str


def _lead(draw: Callable[[float], Figure], name: str, title: str, text: str, tips: Mapping[str, str]) -> Lead:
    wide, narrow = (inline(draw(width), f"{name}-{end}", title, text, tips) for width, end in _WIDTHS)
    return Lead(wide, narrow, title)


_WIDTHS = ((WIDE, "wide"), (WIDTH, "narrow"))


# -- the trade-off ----------------------------------------------------------------------------------------------------


def trade_off(curve: Curve | None, run: Run | None) -> Lead | None:
    """Draw what is lost against the speed-up, or against a cost that is left where times were not measured."""
    chart = _chart(curve, run)
    if chart is None:
        return None
    marks = hero.marks(chart)
    tips = {f"tip{place}": mark.text for place, mark in enumerate(marks)}
    title = f"Points of {chart.metric} lost against {chart.label}"
    return _lead(lambda width: hero.draw(chart, width), "hero", title, "; ".join(mark.text for mark in marks), tips)


def _chart(curve: Curve | None, run: Run | None) -> TradeOffChart | None:
    axis = _axis(curve, run)
    if axis is None:
        return None
    label, value, whole, times = axis
    chosen = None if run is None else _chosen(run, times=times)
    tried = [] if curve is None else [_mark(point, value(point), times=times) for point in curve.points]
    shown = tuple(mark for mark in tried if mark is not None)
    if not shown and chosen is None:
        return None
    goal = None if run is None else run.findings.goal("max_drop")
    metric = _metric(curve, run)
    dense = Mark(whole, 0.0, None, "the original")
    return TradeOffChart(label, metric, shown, dense, chosen, None if goal is None else goal.asked, times=times)


def _axis(curve: Curve | None, run: Run | None) -> tuple[str, Callable[[Point], float | None], float, bool] | None:
    """Return the label, how to read the position of a point, that of the original, and whether it counts times."""
    timed = ("times as fast as the original", _speedup, 1.0, True)
    if curve is None or not curve.points:
        return timed if run is not None and run.speedup is not None else None
    if all(_speedup(point) is not None for point in curve.points):
        return timed
    for label, read in (("multiply-accumulates left", _macs), ("parameters left", _parameters)):
        if all(read(point) is not None for point in curve.points):
            return label, read, 1.0, False
    return None


def _speedup(point: Point) -> float | None:
    """A measured speed-up, or the one that a search for time aimed at."""
    return point.speedup or (1 / point.share if point.kind == "time" and point.share else None)


def _macs(point: Point) -> float | None:
    return point.macs if point.macs is not None else point.share if point.kind in ("", "macs") else None


def _parameters(point: Point) -> float | None:
    return point.parameters if point.parameters is not None else point.share if point.kind == "params" else None


def _mark(point: Point, x: float | None, *, times: bool) -> Mark | None:
    if x is None or point.drop is None:
        return None
    error = None if point.error is None else NORMAL * point.error
    span = "" if error is None else f" ± {100 * error:.1f}"
    text = f"{_position(x, times=times)}: {100 * point.drop:.1f}{span} points lost"
    return Mark(x, point.drop, error, f"{text}, {point.label}" if point.label else text, point.fits)


def _chosen(run: Run, *, times: bool) -> Mark | None:
    left = {own.name: own.left for own in run.quantities}
    x = run.speedup if times else left.get("MACs a sample")
    loss = run.findings.decisive
    if x is None or loss is None or loss.unit != "points":
        return None
    error = None if loss.low is None or loss.high is None else (loss.high - loss.low) / 2
    samples = f" on {loss.samples:,} samples" if loss.samples else ""
    return Mark(
        x, loss.lost, error, f"this result, {_position(x, times=times)}: {100 * loss.lost:.1f} points lost{samples}"
    )


def _metric(curve: Curve | None, run: Run | None) -> str:
    if run is not None and run.findings.decisive is not None:
        return run.findings.decisive.metric
    return curve.named if curve is not None and curve.named else "quality"


def _position(x: float, *, times: bool) -> str:
    return f"{x:.2f}{_TIMES} as fast" if times else f"{percent(x)} left"


# -- the network ------------------------------------------------------------------------------------------------------


def picture(run: Run) -> Lead | None:
    """Draw the network: a column for each block that was cut, the kept units filled."""
    blocks = blocks_of(run)
    if not blocks:
        return None
    text = "; ".join(f"{block.name}: {block.text}" for block in blocks)
    title = "Units of each block: kept and cut, from the input to the output"
    return _lead(lambda width: network.draw(blocks, width), "network", title, text, network.tips(blocks))


def blocks_of(run: Run) -> list[Block]:
    """Return the layers that were cut, folded to blocks."""
    return fold([LayerSize(layer.name, layer.kind, layer.before, layer.after) for layer in run.layers])
