"""What an operator's count of multiply-accumulates works on: a sum of products of sizes of axes.

Only products and convolutions are counted, also those inside fused operators: a fused operator counts what the nodes
that it stands for count. Elementwise work and reductions count nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from onnxmi.model import Node
from onnxmi.typing import Shape

Shapes = Mapping[str, Shape]

RESULT = -1  # place of the first result; the second's is -2, and so on


@dataclass(frozen=True)
class Axis:
    """An axis of an operand or of a result.

    Attributes
    ----------
    place : int
        Position of the operand, or `RESULT` and below for a result.
    axis : int
        Not negative.
    part : pair of int or None
        Its first position and the one after its last, where only a part of the axis counts.
    """

    place: int
    axis: int
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Work:
    """One product of sizes.

    Attributes
    ----------
    macs : int
        Multiply-accumulates.
    axes : tuple of Axis
        The axes whose sizes they are proportional to; nothing that a layer's size changes is missing.
    """

    macs: int
    axes: tuple[Axis, ...]


class UnknownShapeError(LookupError):
    """A tensor's shape is not known: its node is not counted."""


@dataclass(frozen=True)
class MacContext:
    """The shapes of what one node reads and makes."""

    node: Node
    shapes: Shapes

    def find(self, place: int) -> Shape | None:
        """Shape of an operand or a result; None where it is absent or unknown."""
        names = self.node.inputs if place >= 0 else self.node.outputs
        index = place if place >= 0 else RESULT - place
        return self.shapes.get(names[index]) if index < len(names) and names[index] else None

    def shape(self, place: int) -> Shape:
        """Shape of an operand or a result that has to be there."""
        shape = self.find(place)
        if shape is None:
            raise UnknownShapeError(place)
        return shape

    def axes(self, place: int) -> tuple[Axis, ...]:
        """All axes of an operand or a result."""
        return tuple(Axis(place, axis) for axis in range(len(self.shape(place))))

    def integer(self, name: str, default: int = 0) -> int:
        """An attribute."""
        return int(self.node.attributes.get(name, default))

    def work(self, axes: Sequence[Axis], times: int = 1) -> Work:
        """Multiply sizes of axes."""
        return Work(times * prod(self._size(axis) for axis in axes), tuple(axes))

    def _size(self, axis: Axis) -> int:
        return self.shape(axis.place)[axis.axis] if axis.part is None else axis.part[1] - axis.part[0]


MacCount = Callable[[MacContext], Iterator[Work]]
