"""The large chart of a page: what is lost against how much faster or cheaper a model is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from onnxmi.reporting.html.svg import ACCENT, CUT, FAINT, INK, KEPT, PAGE, axes, figure

ROOM = 2.5  # times the limit, or the loss of the chosen model, that the axis shows; what loses more is at its edge
LABEL_ROOM = 0.15  # of the span of the marks that a label takes
LEAST_ROOM = 0.01  # points that the axis shows in any case
HEIGHT = 300.0  # px


@dataclass(frozen=True)
class Mark:
    """A model on the chart.

    Attributes
    ----------
    x : float
        Times as fast, or the share of a cost that is left.
    lost : float
        Points of the metric, as a share.
    error : float or None
        Half the length of its error bar.
    text : str
        What is said of it where a pointer rests on it.
    fits : bool
        Whether it loses no more than was allowed.
    """

    x: float
    lost: float
    error: float | None
    text: str
    fits: bool = True


@dataclass(frozen=True)
class TradeOffChart:
    """What the chart shows.

    Attributes
    ----------
    label : str
        Of the horizontal axis.
    metric : str
        What is lost.
    tried : tuple of Mark
        Models that were tried.
    dense : Mark
        The original.
    chosen : Mark or None
        The result.
    limit : float or None
        Points that may be lost.
    times : bool
        Whether the horizontal axis counts times, not shares.
    """

    label: str
    metric: str
    tried: tuple[Mark, ...]
    dense: Mark
    chosen: Mark | None
    limit: float | None
    times: bool


def draw(chart: TradeOffChart, width: float) -> Figure:
    """Draw the chart; its marks have the identifiers `tip0`, `tip1` ... in the order of `marks`."""
    fig = figure(HEIGHT, width)
    ax = axes(fig, 62, 12, 16, 46)
    ax.grid(visible=True)
    worst = _worst_shown(chart)
    if chart.limit is not None:
        ax.axhspan(-worst, -chart.limit, color=CUT, alpha=0.22, linewidth=0)
        ax.axhline(-chart.limit, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
    for place, mark in enumerate(marks(chart)):
        _draw_mark(ax, chart, mark, f"tip{place}", worst)
    _label_limit(ax, chart)
    _scale(ax, chart, worst)
    return fig


def marks(chart: TradeOffChart) -> Sequence[Mark]:
    """Return all marks in the order in which they are drawn."""
    return [*chart.tried, chart.dense, *([chart.chosen] if chart.chosen else [])]


def _draw_mark(ax: Axes, chart: TradeOffChart, mark: Mark, name: str, worst: float) -> None:
    inside = mark.lost <= worst
    y = -min(mark.lost, worst)
    if mark.error is not None and inside and mark is not chart.dense:
        low, high = -min(mark.lost + mark.error, worst), -(mark.lost - mark.error)
        ax.plot([mark.x, mark.x], [low, high], color=FAINT, linewidth=1.2, zorder=2)
    (line,) = ax.plot(mark.x, y, linestyle="none", clip_on=False, **_style(chart, mark, worst))
    line.set_gid(name)
    if mark is chart.dense or mark is chart.chosen:
        text = "original" if mark is chart.dense else "this result"
        left = mark is chart.chosen and _more_room_left(chart, mark)
        ax.annotate(text, (mark.x, y), xytext=(-11, 9) if left else (11, 9), textcoords="offset points",
                    ha="right" if left else "left", fontsize=12, color=INK, zorder=6)  # fmt: skip


def _more_room_left(chart: TradeOffChart, mark: Mark) -> bool:
    """Whether fewer marks are left of a mark, as far as its label goes, than right of it."""
    xs = [other.x for other in marks(chart)]
    span = max(xs) - min(xs)
    direction = 1 if chart.times else -1  # what is left of a cost grows to the left
    away = [direction * (x - mark.x) for x in xs]
    before, after = (sum(0 < sign * x < LABEL_ROOM * span for x in away) for sign in (-1, 1))
    if before == after:
        return direction * (mark.x - (min(xs) + max(xs)) / 2) > 0
    return before < after


def _style(chart: TradeOffChart, mark: Mark, worst: float) -> dict[str, Any]:
    if mark is chart.dense:
        return {"marker": "s", "color": INK, "markersize": 8}
    if mark is chart.chosen:
        return {"marker": "D", "color": ACCENT, "markersize": 12, "markeredgecolor": PAGE, "zorder": 5}
    shape, face = "o" if mark.lost <= worst else "v", KEPT if mark.fits else PAGE
    return {"marker": shape, "color": KEPT, "markerfacecolor": face, "markersize": 7, "zorder": 3}


def _label_limit(ax: Axes, chart: TradeOffChart) -> None:
    if chart.limit is not None:
        ax.annotate("more than was allowed", (0.01, -chart.limit), xytext=(0, -4), textcoords="offset points",
                    xycoords=ax.get_yaxis_transform(), va="top", fontsize=11, color=FAINT)  # fmt: skip


def _worst_shown(chart: TradeOffChart) -> float:
    anchors = [LEAST_ROOM, chart.limit or 0.0]
    if chart.chosen is not None:
        anchors.append((chart.chosen.lost + (chart.chosen.error or 0.0)) / ROOM * 1.2)
    elif chart.limit is None:
        anchors.append(max((mark.lost + (mark.error or 0.0) for mark in chart.tried), default=0.0) / ROOM * 1.1)
    return ROOM * max(anchors)


def _scale(ax: Axes, chart: TradeOffChart, worst: float) -> None:
    xs = [mark.x for mark in marks(chart)]
    low, high = min(xs), max(xs)
    margin = 0.08 * (high - low) or 0.1
    ax.set_xlim(low - margin, high + margin)
    if not chart.times:
        ax.invert_xaxis()
    tops = [(mark.error or 0.0) - mark.lost for mark in marks(chart) if mark.lost <= worst]
    best = max([0.0, *tops])
    ax.set_ylim(-worst, best + 0.12 * (worst + best))
    ax.set_xlabel(chart.label)
    ax.set_ylabel(f"{chart.metric}, change in points")
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))  # the original at 1 gets a tick
    ax.yaxis.set_major_locator(MaxNLocator(5))
    unit = "\N{MULTIPLICATION SIGN}" if chart.times else "%"
    factor = 1 if chart.times else 100
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{factor * x:g}{unit}" if math.isfinite(x) else ""))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y + 0.0:+g}" if y else "0"))
