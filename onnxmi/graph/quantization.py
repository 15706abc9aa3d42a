"""What integers stand for: those of a weight, by scales and zero points, and those of a quantized operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from onnxmi.model import Graph, Node
from onnxmi.operators.layout import QuantizedOperands
from onnxmi.typing import Array, Ints

Read = Callable[[str], Array]
"""Name of a stored tensor -> its values."""
KeptAlongAxis = Callable[[int], Ints]
"""Axis of the stored integers -> what stays along it."""


_ZERO = 8  # what half a byte has to be for a weight of 0


def keep_all(axis: int) -> Any:
    """Let all stay."""
    return slice(None)


class QuantizationScheme(Protocol):
    """A way to store weights as integers."""

    @property
    def scales(self) -> tuple[str, ...]:
        """Tensors whose product is the scale; none where it is not known."""

    def decode(self, stored: Array, read: Read, kept_along: KeptAlongAxis) -> Array:
        """Return what the integers that stay stand for, float64."""

    def encode(self, value: Array, old: Array, read: Read, kept_along: KeptAlongAxis) -> Array:
        """Return the integers that come nearest to values; `old` are those before the cut."""


@dataclass(frozen=True)
class AffineQuantization:
    """Integers q stand for ``(q - zero) * scale``.

    Attributes
    ----------
    scales : tuple of str
        Tensors of one entry, or of one an index along an axis; (1, gates) of the gates of a recurrent layer.
    zero : str
        Another such tensor; "" is 0.
    axis : int
        That axis.
    """

    scales: tuple[str, ...]
    zero: str
    axis: int

    def decode(self, stored: Array, read: Read, kept_along: KeptAlongAxis) -> Array:
        """See `QuantizationScheme.decode`."""
        scale, zero = self._numbers(stored.ndim, read, kept_along)
        return np.asarray((stored.astype(np.float64) - zero) * scale)

    def encode(self, value: Array, old: Array, read: Read, kept_along: KeptAlongAxis) -> Array:
        """See `QuantizationScheme.encode`; new weights stay in the range of the old ones.

        They may be held to fewer bits than their type has, against overflow; the 32 bits of a bias are all used.
        """
        scale, zero = self._numbers(value.ndim, read, kept_along)
        wide = old.dtype.itemsize > 2
        low, high = (np.iinfo(old.dtype).min, np.iinfo(old.dtype).max) if wide else (old.min(), old.max())
        return np.asarray(np.clip(np.rint(value / scale) + zero, float(low), float(high))).astype(old.dtype)

    def _numbers(self, rank: int, read: Read, kept_along: KeptAlongAxis) -> tuple[Array, Array]:
        """Scale and zero point as arrays that broadcast over the values."""

        def number(name: str) -> Array:
            value = read(name).astype(np.float64)
            if value.ndim == 2 and rank == 3 and value.size > 1:  # of the gates of a recurrent layer's one direction
                return np.asarray(value[:, None, kept_along(2)])
            value = value.reshape(-1)
            value = value[kept_along(self.axis % rank)] if value.size > 1 else value
            return value.reshape([value.size if axis == self.axis % rank else 1 for axis in range(rank)])

        scale = np.ones([1] * rank)
        for name in self.scales:
            scale = scale * number(name)
        return scale, number(self.zero) if self.zero else np.zeros([1] * rank)


@dataclass(frozen=True)
class Int4BlockQuantization:
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

    def decode(self, stored: Array, read: Read, kept_along: KeptAlongAxis) -> Array:
        """See `QuantizationScheme.decode`: (outputs, inputs)."""
        pairs = np.stack([stored & 15, stored >> 4], axis=-1).reshape(*stored.shape[:2], -1)
        values = (pairs.astype(np.float64) - _ZERO) * self._scale(read, kept_along)[:, :, None]
        return np.asarray(values.reshape(len(stored), -1))

    def encode(self, value: Array, old: Array, read: Read, kept_along: KeptAlongAxis) -> Array:
        """See `QuantizationScheme.encode`; the value is (outputs, inputs)."""
        blocked = value.reshape(len(value), -1, 2 * old.shape[2])
        scale = self._scale(read, kept_along)[:, :, None]
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
        integers = np.clip(np.rint(blocked * inverse) + _ZERO, 0, 15).astype(old.dtype)
        return np.asarray(integers[..., ::2] | (integers[..., 1::2] << 4))

    def _scale(self, read: Read, kept_along: KeptAlongAxis) -> Array:
        """(outputs, blocks) that stay."""
        scale = read(self.scales[0]).astype(np.float64).reshape(-1, self.blocks)
        return np.asarray(scale[kept_along(0)][:, kept_along(1)])


@dataclass(frozen=True)
class QuantizedReading:
    """The operator in numbers.

    Attributes
    ----------
    scheme : QuantizationScheme
        Of the weights; without scales where they are not found.
    activation : pair of float or None
        Scale and zero point of the activation, where they are stored.
    end : Node
        What makes the product: the operator, or what scales it.
    """

    scheme: QuantizationScheme
    activation: tuple[float, float] | None
    end: Node


def read_quantized(graph: Graph, node: Node, quantized: QuantizedOperands, axis: int) -> QuantizedReading | None:
    """Return what an operator's integers stand for; None where zero points or scales are not stored.

    Parameters
    ----------
    axis : int
        That of the weights on which scales and zero points may be several.
    """
    zero = node.operand(quantized.zero)
    if zero and not graph.is_constant(zero):
        return None
    if quantized.scale is None:
        end, scale = _scaled_later(graph, node)
        return QuantizedReading(AffineQuantization(scale, zero, axis), None, end)
    scale_name = node.inputs[quantized.scale]
    if not graph.is_constant(scale_name):
        return None
    if quantized.packed:
        whole = node.attributes.get("bits", 4) == 4 and not node.operand(quantized.zero) and not node.operand(4)
        blocks = graph.constant_shape(node.inputs[1])[1] if graph.is_constant(node.inputs[1]) else 0
        return QuantizedReading(Int4BlockQuantization((scale_name,), blocks), None, node) if whole and blocks else None
    if _differ_by_direction(graph.constant_shape(scale_name)):
        return None
    scheme = AffineQuantization((scale_name,), zero, axis)
    if quantized.activation is None:
        return QuantizedReading(scheme, None, node)
    scale_read, zero_read = (_number(graph, node.operand(operand)) for operand in quantized.activation)
    return None if scale_read is None or zero_read is None else QuantizedReading(scheme, (scale_read, zero_read), node)


def _differ_by_direction(shape: tuple[int, ...]) -> bool:
    """Whether there are scales for the gates of each of two directions, which keep units of their own."""
    return len(shape) == 2 and min(shape) > 1


def _number(graph: Graph, name: str) -> float | None:
    """A stored number; 0 where it is absent."""
    if not name:
        return 0.0
    one = graph.is_constant(name) and prod(graph.constant_shape(name)) == 1
    return float(graph.constant(name).reshape(-1)[0]) if one else None


def _scaled_later(graph: Graph, node: Node) -> tuple[Node, tuple[str, ...]]:
    """Follow a product of integers to where it is cast and multiplied by both scales, as quantizers write it."""
    cast = _read_by(graph, node, "Cast")
    times = _read_by(graph, cast, "Mul") if cast is not None else None
    if cast is None or times is None:
        return node, ()
    other = next((name for name in times.inputs if name != cast.outputs[0]), "")
    both = graph.producers.get(other)
    if both is None or both.op != "Mul":
        return node, ()
    stored = tuple(name for name in both.inputs if graph.is_constant(name) and len(graph.constant_shape(name)) < 2)
    return (times, stored) if len(stored) == 1 else (node, ())


def _read_by(graph: Graph, node: Node, op: str) -> Node | None:
    """The one node that reads a node's result, if it is such an operator."""
    found = graph.only_reader(node.outputs[0])
    return found if found is not None and (found.domain, found.op) == ("", op) else None
