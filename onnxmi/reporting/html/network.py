"""The network as a picture: a column for each block, as high as it has units, the kept ones filled."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onnxmi.reporting.blocks import KIND_NAMES, Block
from onnxmi.reporting.html.labels import ending
from onnxmi.reporting.html.svg import CUT, FAINT, INK, KEPT, axes, figure

ROW = 150.0  # px for each kind of layer
NAMED = 42.0  # px that a column takes at least where blocks are named below it
LABEL = 11.0  # size of the text


def kinds_of(blocks: Sequence[Block]) -> list[str]:
    """Return the kinds of layers of the network, in the order in which they come."""
    return list(dict.fromkeys(layer.kind for block in blocks for layer in block.layers))


def draw(blocks: Sequence[Block], width: float) -> Figure:
    """Draw a row of columns for each kind of layer; a column has the identifier `tipN`, N counted row by row."""
    kinds = kinds_of(blocks)
    names = 62.0 if width / len(blocks) >= NAMED else 26.0
    fig = figure(ROW * len(kinds) + names, width)
    for row, kind in enumerate(kinds):
        ax = axes(fig, 8, ROW * row + 26, 8, ROW * (len(kinds) - row - 1) + names)
        _draw_kind(ax, blocks, kind, row * len(blocks))
        if row == len(kinds) - 1:
            _name_blocks(ax, blocks, width)
    return fig


def _draw_kind(ax: Axes, blocks: Sequence[Block], kind: str, first: int) -> None:
    sizes = [_units(block, kind) for block in blocks]
    most = max(before for before, _ in sizes)
    for place, (before, after) in enumerate(sizes):
        if not before:
            continue
        ax.bar(place, before / most, 0.72, bottom=-before / most / 2, color=CUT, alpha=0.55)
        (kept,) = ax.bar(place, after / most, 0.72, bottom=-after / most / 2, color=KEPT)
        kept.set_gid(f"tip{first + place}")
    ax.set_xlim(-0.6, len(blocks) - 0.4)
    ax.set_ylim(-0.56, 0.56)
    ax.set_axis_off()
    ax.set_title(f"{KIND_NAMES.get(kind, kind)}, up to {most:,}", fontsize=12, loc="left", color=INK)


def _units(block: Block, kind: str) -> tuple[int, int]:
    layers = [layer for layer in block.layers if layer.kind == kind]
    return sum(layer.before for layer in layers), sum(layer.after for layer in layers)


def tips(blocks: Sequence[Block]) -> dict[str, str]:
    """Return what is said of each column where a pointer rests on it."""
    texts = {}
    for row, kind in enumerate(kinds_of(blocks)):
        for place, block in enumerate(blocks):
            before, after = _units(block, kind)
            texts[f"tip{row * len(blocks) + place}"] = (
                f"{block.name}: {after:,} of {before:,} {KIND_NAMES.get(kind, kind)}"
            )
    return texts


def _name_blocks(ax: Axes, blocks: Sequence[Block], width: float) -> None:
    room = width / len(blocks)
    if room >= NAMED:
        for place, block in enumerate(blocks):
            ax.text(place, -0.6, ending(block.name, LABEL, 66), fontsize=LABEL, color=FAINT, rotation=35, ha="right",
                    va="top", rotation_mode="anchor")  # fmt: skip
    else:
        ax.text(-0.5, -0.6, "input", fontsize=LABEL, color=FAINT, va="top")
        ax.text(len(blocks) - 0.5, -0.6, "output", fontsize=LABEL, color=FAINT, va="top", ha="right")
