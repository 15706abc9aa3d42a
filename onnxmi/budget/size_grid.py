"""Sizes that a layer may be cut to: those that pay on the processor, and nothing where its branch can go."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, gcd
from typing import Any

import numpy as np

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.errors import UsageError
from onnxmi.graph.channel_graph import Layer, UnitCounts
from onnxmi.transforms.analysis import Analysis
from onnxmi.transforms.cut import Cut
from onnxmi.typing import Ints

STEPS = 32  # sizes to choose from, at most
LANES = 8  # widths of products are best multiples of it
QUARTER = 4  # a convolution whose channels are no multiple of it falls out of the blocked layout
WIDE_BLOCK, BLOCK = 16, 8  # channels that onnxruntime's convolutions take at a time, with AVX-512 and without


def kept_count(layer: Layer, keep: float) -> int:
    """Units of a layer (of each part) that stay at a share `keep`; at least one."""
    return min(max(1, round(keep * layer.size)), layer.size)


def uniform(layers: Sequence[Layer], keep: float) -> UnitCounts:
    """Layer id -> units to keep (of each part), the same share of every layer."""
    return {layer.id: kept_count(layer, keep) for layer in layers}


def block_of_processor() -> int:
    """Channels that onnxruntime's convolutions take at a time on this processor."""
    simd: Any = np.show_config(mode="dicts")
    known = (simd or {}).get("SIMD Extensions", {})
    extensions = [name for group in ("baseline", "found") for name in known.get(group, ())]
    return WIDE_BLOCK if any(name.startswith(("AVX512", "X86_V4")) for name in extensions) else BLOCK


def parse_alignment(text: str) -> int | None:
    """Read `auto` (None), `none` (1) or a number.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if text == "auto":
        return None
    if text == "none":
        return 1
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise UsageError(f"--align {text!r}: expected auto, none or a whole number above 0")


def candidate_sizes(analysis: Analysis, layer: Layer, alignment: int | None) -> Ints:
    """Sizes (of each part) that a layer may be cut to, ascending; the last is its own.

    Parameters
    ----------
    alignment : int or None
        Units of all parts together are a multiple of it; None for what pays: whole blocks for the channels of
        convolutions (below one block, multiples of four), multiples of eight for wide layers of products.

    Returns
    -------
    (n,) int64
        At most twice `STEPS` and a few sizes; 0 is among them where the layer's branch can be removed.
    """
    unit = _unit(layer, alignment)
    # Hardware-friendly sizes, and some between where the steps would be coarse.
    sizes = {layer.size, *_multiples(layer, unit), *_multiples(layer, unit, layer.units // STEPS)}
    if alignment is None and layer.kind == "channels":
        sizes.update(_multiples(layer, QUARTER, below=block_of_processor()))
    if layer.grade == "exact" and Cut(analysis, Keeping({layer.id: Kept(np.zeros(0, dtype=np.int64))})).is_possible:
        sizes.add(0)
    return np.array(sorted(sizes), dtype=np.int64)


def _unit(layer: Layer, alignment: int | None) -> int:
    if alignment is not None:
        return alignment
    if layer.kind == "channels":
        return block_of_processor()
    return LANES if layer.units >= 8 * LANES else 1


def _multiples(layer: Layer, unit: int, below: int | None = None) -> range:
    """Sizes of a part at which all parts together are a multiple of `unit`, and fewer than `below`, in few steps."""
    # All parts together have to be a multiple: the parts' number may bring factors of its own.
    step = unit // gcd(unit, layer.parts)
    most = layer.size if below is None else min(layer.size, ceil(below / layer.parts))
    step *= max(1, ceil(most / step / STEPS))
    return range(step, most, step)
