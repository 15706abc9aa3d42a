"""The drawings of the page, as matplotlib figures: they know numbers and names, not where these come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from onnxmi.reporting.html.labels import ending, two_lines, width
from onnxmi.reporting.html.svg import ACCENT, CUT, FAINT, INK, KEPT, PAGE, WIDTH, axes, figure

ROW, BAR = 38.0, 11.0  # px
POINTS = 200  # of a curve that is a hundred and some px wide
PANEL, COLUMNS = 156.0, 2


@dataclass(frozen=True)
class Bar:
    """A bar within a bar: a name, what to write beside it, and the lengths of both as shares of the width."""

    name: str
    text: str
    outer: float
    inner: float


def bars(rows: Sequence[Bar]) -> Figure:
    """Draw named bars below each other, the inner in the color of what is kept."""
    fig = figure(ROW * len(rows) + 4)
    ax = axes(fig, 2, 2, 2, 2)
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(ROW * len(rows), 0)
    middles = [ROW * place + 19 + BAR / 2 for place in range(len(rows))]
    ax.barh(middles, [row.outer for row in rows], BAR, color=CUT)
    ax.barh(middles, [min(row.inner, row.outer) for row in rows], BAR, color=KEPT)
    for place, row in enumerate(rows):
        room = WIDTH - 16 - width(row.text, 12)
        ax.text(0, ROW * place + 14, ending(row.name, 12, room), fontsize=12)
        ax.text(1, ROW * place + 14, row.text, fontsize=12, ha="right", color=FAINT)
    return fig


def widths(before: Sequence[int], after: Sequence[int]) -> Figure:
    """Draw the units of many layers before and after, in the order of the model."""
    fig = figure(210)
    ax = axes(fig, 52, 12, 8, 44)
    edges = [place + 0.5 for place in range(len(before) + 1)]
    ax.stairs(before, edges, fill=True, color=CUT, label="cut")
    ax.stairs(after, edges, fill=True, color=KEPT, label="kept")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_xlabel("layer, from the input to the output")
    ax.set_ylabel("units")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return fig


@dataclass(frozen=True)
class Growth:
    """What the units of a layer added, in the order of choice, and how many of them stay."""

    name: str
    gains: tuple[float, ...]
    kept: int


def growth(panels: Sequence[Growth], unit: str) -> Figure:
    """Draw what the first k units of each layer tell together, one small panel a layer."""
    rows = math.ceil(len(panels) / COLUMNS)
    fig = figure(PANEL * rows)
    wide = WIDTH / COLUMNS
    for place, panel in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        ax = axes(
            fig, wide * column + 40, PANEL * row + 40, WIDTH - wide * (column + 1) + 8, PANEL * (rows - row - 1) + 36
        )
        _grow(ax, panel, unit if column == 0 else "")
    return fig


def _grow(ax: Axes, panel: Growth, label: str) -> None:
    totals = [0.0, *accumulate(panel.gains)]
    ks = range(0, len(totals), math.ceil(len(totals) / POINTS))
    ys = [totals[k] for k in ks]
    ax.fill_between(ks, ys, color=KEPT, alpha=0.18, linewidth=0)
    ax.plot(ks, ys, color=KEPT)
    if panel.kept < len(panel.gains):
        ax.axvline(panel.kept, color=ACCENT, linewidth=1.5, linestyle=(0, (4, 3)))
    ax.plot(panel.kept, totals[min(panel.kept, len(totals) - 1)], "o", color=KEPT, markersize=5)
    ax.set_title(two_lines(panel.name, 11, WIDTH / COLUMNS - 18), fontsize=11, loc="left", x=-0.2, color=INK)
    ax.set_xlim(0, len(totals) - 1)
    ax.set_ylim(bottom=min(0.0, *totals))
    ax.margins(y=0.12)
    ax.set_xlabel("k", fontsize=11, labelpad=1)
    ax.set_ylabel(label, fontsize=11, labelpad=3)
    ax.tick_params(labelsize=10)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4))


@dataclass(frozen=True)
class Axis:
    """What runs along an axis, and whether it is a share."""

    label: str
    share: bool


def trade_off(
    points: Sequence[tuple[float, float]],
    across: Axis,
    upright: Axis,
    dense: float | None,
    here: tuple[float, float] | None,
    *,
    joined: bool = True,
) -> Figure:
    """Draw quality against cost: the models in order, the original as a line, the run at hand as a diamond."""
    fig = figure(262)
    ax = axes(fig, 64, 14, 14, 48)
    ax.grid(visible=True)
    if dense is not None:
        ax.axhline(dense, color=FAINT, linewidth=1.5, linestyle=(0, (4, 3)))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    ax.plot(xs, ys, "-o" if joined else "o", color=KEPT, markersize=6)
    if here is not None:
        ax.plot(*here, "D", color=ACCENT, markersize=9, markeredgecolor=PAGE)
    ax.margins(0.08, 0.08)
    ax.set_xlabel(across.label)
    ax.set_ylabel(upright.label)
    for axis, described in ((ax.xaxis, across), (ax.yaxis, upright)):
        axis.set_major_locator(MaxNLocator(5))
        if described.share:
            axis.set_major_formatter(PercentFormatter(1.0))
    if upright.share:
        low, high = ax.get_ylim()
        ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= min(high, 1.0)])
    return fig
