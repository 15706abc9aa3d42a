"""How integers stand for weights: one scale, one an index along an axis, or one a block of inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from onnxmi.typing import Array, Ints

Read = Callable[[str], Array]
"""Name of a stored tensor -> its values."""
Staying = Callable[[int], Ints]
"""Axis of the stored integers -> what stays along it."""


_ZERO = 8  # what half a byte has to be for a weight of 0


def everything(axis: int) -> Any:
    """Let all stay."""
    return slice(None)


class Coding(Protocol):
    """A way to store weights as integers."""

    @property
    def scales(self) -> tuple[str, ...]:
        """Tensors whose product is the scale; none where it is not known."""

    def decode(self, stored: Array, read: Read, staying: Staying) -> Array:
        """Return what the integers that stay stand for, float64."""

    def encode(self, value: Array, old: Array, read: Read, staying: Staying) -> Array:
        """Return the integers that come nearest to values; `old` are those before the cut."""


@dataclass(frozen=True)
class Affine:
    """Integers q stand for ``(q - zero) * scale``.

    Attributes
    ----------
    scales : tuple of str
        Tensors of one entry, or of one an index along an axis.
    zero : str
        Another such tensor; "" is 0.
    axis : int
        That axis.
    """

    scales: tuple[str, ...]
    zero: str
    axis: int

    def decode(self, stored: Array, read: Read, staying: Staying) -> Array:
        """See `Coding.decode`."""
        scale, zero = self._numbers(stored.ndim, read, staying)
        return np.asarray((stored.astype(np.float64) - zero) * scale)

    def encode(self, value: Array, old: Array, read: Read, staying: Staying) -> Array:
        """See `Coding.encode`; new weights stay in the range of the old ones.

        They may be held to fewer bits than their type has, against overflow; the 32 bits of a bias are all used.
        """
        scale, zero = self._numbers(value.ndim, read, staying)
        wide = old.dtype.itemsize > 2
        low, high = (np.iinfo(old.dtype).min, np.iinfo(old.dtype).max) if wide else (old.min(), old.max())
        return np.asarray(np.clip(np.rint(value / scale) + zero, float(low), float(high))).astype(old.dtype)

    def _numbers(self, rank: int, read: Read, staying: Staying) -> tuple[Array, Array]:
        """Scale and zero point as arrays that broadcast over the values."""

        def number(name: str) -> Array:
            value = read(name).astype(np.float64).reshape(-1)
            value = value[staying(self.axis % rank)] if value.size > 1 else value
            return value.reshape([value.size if axis == self.axis % rank else 1 for axis in range(rank)])

        scale = np.ones([1] * rank)
        for name in self.scales:
            scale = scale * number(name)
        return scale, number(self.zero) if self.zero else np.zeros([1] * rank)


@dataclass(frozen=True)
class Nibbles:
    """Bytes (outputs, blocks, block / 2) of two weights each, the lower half first; each block has a scale.

    Attributes
    ----------
    scales : tuple of one str
        The tensor of the scales, (outputs, blocks) or flat.
    blocks : int
        Number of blocks before the cut.
    """

    scales: tuple[str]
    blocks: int

    def decode(self, stored: Array, read: Read, staying: Staying) -> Array:
        """See `Coding.decode`: (outputs, inputs)."""
        pairs = np.stack([stored & 15, stored >> 4], axis=-1).reshape(*stored.shape[:2], -1)
        values = (pairs.astype(np.float64) - _ZERO) * self._scale(read, staying)[:, :, None]
        return np.asarray(values.reshape(len(stored), -1))

    def encode(self, value: Array, old: Array, read: Read, staying: Staying) -> Array:
        """See `Coding.encode`; the value is (outputs, inputs)."""
        blocked = value.reshape(len(value), -1, 2 * old.shape[2])
        scale = self._scale(read, staying)[:, :, None]
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
        integers = np.clip(np.rint(blocked * inverse) + _ZERO, 0, 15).astype(old.dtype)
        return np.asarray(integers[..., ::2] | (integers[..., 1::2] << 4))

    def _scale(self, read: Read, staying: Staying) -> Array:
        """(outputs, blocks) that stay."""
        scale = read(self.scales[0]).astype(np.float64).reshape(-1, self.blocks)
        return np.asarray(scale[staying(0)][:, staying(1)])
