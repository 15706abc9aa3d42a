"""The windows that convolutions and pools slide over an image: for each place in the kernel, what it touches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from onnxmi.operators.patches import window
from onnxmi.operators.vjp import VjpContext
from onnxmi.typing import Array

Index = tuple[Any, ...]


@dataclass(frozen=True)
class KernelWindows:
    """Windows over an image that was padded.

    Attributes
    ----------
    image, kernel, positions : tuple of int
        Spatial shapes of the image, of a window, and of the grid of windows.
    strides, dilations, before : tuple of int
        For each spatial axis; `before` is the padding in front.
    """

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    positions: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]

    @staticmethod
    def of(ctx: VjpContext, shape: Sequence[int], kernel: Sequence[int], positions: Sequence[int]) -> KernelWindows:
        """Read them off a node; `shape` (N, C, ...) is of the side that windows slide over."""
        seen = window(ctx.node.attributes, tuple(kernel), tuple(shape[2:]), transposed=False)
        return KernelWindows(seen.size, seen.kernel, tuple(positions), seen.strides, seen.dilations, seen.before)

    @property
    def _extent(self) -> tuple[int, ...]:
        """Spatial shape of the padded image, as far as windows reach and the image goes."""
        reach = zip(self.positions, self.strides, self.kernel, self.dilations, self.before, self.image, strict=True)
        return tuple(max((n - 1) * s + (k - 1) * d + 1, first + length) for n, s, k, d, first, length in reach)

    @property
    def _inside(self) -> Index:
        return (..., *(slice(first, first + length) for first, length in zip(self.before, self.image, strict=True)))

    def __iter__(self) -> Iterator[tuple[Index, Index]]:
        """Index each place in the kernel, and what all windows have there in the padded image."""
        for place in product(*map(range, self.kernel)):
            starts = [k * d for k, d in zip(place, self.dilations, strict=True)]
            counted = zip(starts, self.positions, self.strides, strict=True)
            yield (..., *place), (..., *(slice(start, start + (n - 1) * s + 1, s) for start, n, s in counted))

    def empty(self, leading: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Zeros in the shape of the padded image."""
        return np.zeros((*leading, *self._extent), dtype)

    def padded(self, image: Array, fill: float = 0.0) -> Array:
        """Put `fill` around an image (N, C, ...)."""
        made = np.full((*image.shape[:2], *self._extent), fill, image.dtype)
        made[self._inside] = image
        return made

    def cropped(self, padded: Array) -> Array:
        """Take the padding off."""
        return padded[self._inside]

    def counts(self, *, padding: bool) -> Array:
        """How many elements each window averages; those of the padding only where they count."""
        if padding:
            return np.asarray(float(np.prod(self.kernel)))
        ones = self.padded(np.ones((1, 1, *self.image), np.float32))
        return np.asarray(np.maximum(np.sum([ones[cut] for _, cut in self], axis=0), 1.0))
