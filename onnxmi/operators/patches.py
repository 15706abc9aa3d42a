"""The patches that convolutions see: which inputs each position of the result is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from onnxmi.typing import Array, Bools, Ints


@dataclass(frozen=True)
class Window:
    """A kernel on one spatial size.

    Attributes
    ----------
    size : tuple of int
        Spatial shape of the input.
    kernel, strides, dilations : tuple of int
        One entry for each spatial axis.
    before : tuple of int
        Padding at the start of each axis.
    places : tuple of int
        Spatial shape of the result.
    transposed : bool
        For a transposed convolution: a result at p reads (p + before - k * dilation) / stride where that is whole.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    places: tuple[int, ...]
    transposed: bool = False

    def sources(self, axis: int, place: Ints) -> tuple[Ints, Bools]:
        """Input position for each kernel entry along one axis, (rows, kernel), and whether there is one."""
        steps = np.arange(self.kernel[axis]) * self.dilations[axis]
        if self.transposed:
            at, odd = np.divmod(place[:, None] + self.before[axis] - steps, self.strides[axis])
            return at, (odd == 0) & (at >= 0) & (at < self.size[axis])
        at = place[:, None] * self.strides[axis] + steps - self.before[axis]
        return at, (at >= 0) & (at < self.size[axis])

    @cached_property
    def tables(self) -> tuple[tuple[Ints, Bools], ...]:
        """For each axis and every place on it: `sources`, with a position to read where there is none."""
        found = (self.sources(axis, np.arange(places)) for axis, places in enumerate(self.places))
        return tuple((np.where(within, at, 0), within) for at, within in found)


def window(
    attributes: Mapping[str, Any], kernel: tuple[int, ...], size: tuple[int, ...], *, transposed: bool
) -> Window:
    """Read a convolution's attributes."""
    axes = len(kernel)
    strides, dilations = (tuple(attributes.get(name, (1,) * axes)) for name in ("strides", "dilations"))
    pads, extra = tuple(attributes.get("pads", (0,) * 2 * axes)), tuple(attributes.get("output_padding", (0,) * axes))
    auto = attributes.get("auto_pad", "NOTSET")
    if transposed:
        stated = tuple(attributes.get("output_shape", ()))
        return _transposed_window(kernel, size, strides, dilations, pads, auto, extra, stated)
    return _window(kernel, size, strides, dilations, pads, auto)


@lru_cache(maxsize=256)  # every batch asks for the same few, and for their tables
def _window(
    kernel: tuple[int, ...],
    size: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    auto: str,
) -> Window:
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    before, after = _padding(pads, auto, size, strides, reach)
    spans = zip(size, before, after, reach, strides, strict=True)
    places = tuple((n + b + a - r) // s + 1 for n, b, a, r, s in spans)
    return Window(size, kernel, strides, dilations, before, places)


@lru_cache(maxsize=256)
def _transposed_window(
    kernel: tuple[int, ...],
    size: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    auto: str,
    extra: tuple[int, ...],
    stated: tuple[int, ...],
) -> Window:
    """Padding takes from the result.

    Where it is automatic, the result is as stated, or as many strides as inputs; never longer than without padding.
    """
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    whole = [(n - 1) * s + r + e for n, s, r, e in zip(size, strides, reach, extra, strict=True)]
    axes, same = len(size), auto in ("SAME_UPPER", "SAME_LOWER")
    if not stated and not same:
        before, after = (pads[:axes], pads[axes:]) if auto != "VALID" else ((0,) * axes, (0,) * axes)
        places = tuple(w - b - a for w, b, a in zip(whole, before, after, strict=True))
        return Window(size, kernel, strides, dilations, before, places, transposed=True)
    asked = stated[-axes:] or tuple(n * s for n, s in zip(size, strides, strict=True))
    total = [max(w - n, 0) for w, n in zip(whole, asked, strict=True)]
    places = tuple(w - t for w, t in zip(whole, total, strict=True))
    before = tuple(t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total)
    return Window(size, kernel, strides, dilations, before, places, transposed=True)


def _padding(
    pads: tuple[int, ...], auto: str, size: tuple[int, ...], strides: tuple[int, ...], reach: list[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each axis, stated or automatic."""
    axes = len(size)
    if auto == "VALID":
        return (0,) * axes, (0,) * axes
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        return pads[:axes], pads[axes:]
    total = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(size, strides, reach, strict=True)]
    small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def gather(activation: Array, seen: Window, places: Ints) -> Array:
    """Return the patches at some places, (rows, channels, kernel entries); the input is neither padded nor unfolded.

    Parameters
    ----------
    activation : (samples, channels, *size) array
        The input.
    probe : Window
        For its size.
    places : (rows,) int64
        Flat indices into (samples, *seen.places).
    """
    samples, *where = np.unravel_index(places, (activation.shape[0], *seen.places))
    offsets, inside = np.zeros((len(places), 1), dtype=np.int64), np.ones((len(places), 1), dtype=np.bool_)
    for (sources, exists), place, size in zip(seen.tables, where, seen.size, strict=True):
        at, within = sources[place], exists[place]
        wide = len(places), offsets.shape[1] * at.shape[1]  # spelled out: a batch may have no place
        offsets = (offsets[:, :, None] * size + at[:, None, :]).reshape(wide)
        inside = (inside[:, :, None] & within[:, None, :]).reshape(wide)
    patches: Array = activation.reshape(*activation.shape[:2], -1)[samples[:, None], :, offsets]
    patches[~inside] = 0
    return patches.swapaxes(1, 2)


def count(activation: Array, seen: Window) -> int:
    """How many places there are in all samples."""
    return int(activation.shape[0]) * prod(seen.places)
