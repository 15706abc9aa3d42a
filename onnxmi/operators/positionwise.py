"""How a Gather of one position moves up through an operator that treats every position alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from onnxmi.model import Node
from onnxmi.typing import Shape

Shapes = Mapping[str, Shape]
CarriedAxes = tuple[tuple[int, int], ...]
"""(operand, axis) for each operand that has the axis."""


@dataclass(frozen=True)
class PositionContext:
    """One node, and the axis of its first output of which one position is wanted.

    Attributes
    ----------
    node : Node
        The operator.
    axis : int
        Not negative.
    shapes : mapping of tensor name to shape
        Of all tensors.
    opset : int
        Version of the standard operators.
    """

    node: Node
    axis: int
    shapes: Shapes
    opset: int

    @property
    def rank(self) -> int:
        """Number of axes of the first output."""
        return len(self.shapes[self.node.outputs[0]])

    def aligned(self, operands: range | None = None) -> CarriedAxes:
        """Operands (all by default) whose axis, counted from the right, is the result's and not of size one."""
        return tuple(self._aligned(range(len(self.node.inputs)) if operands is None else operands))

    def _aligned(self, operands: range) -> Iterator[tuple[int, int]]:
        from_right = self.rank - self.axis
        for operand in operands:
            name = self.node.inputs[operand]
            shape = self.shapes.get(name, ()) if name else ()
            if from_right <= len(shape) and shape[-from_right] != 1:
                yield operand, len(shape) - from_right


PositionRule = Callable[[PositionContext], "CarriedAxes | None"]
"""Where the axis is on the operands; None where the operator does not treat positions on it alike."""


def broadcast_positions(ctx: PositionContext) -> CarriedAxes | None:
    """Element by element: every operand that is not of size one where the axis is."""
    return ctx.aligned()


def first_operand_positions(ctx: PositionContext) -> CarriedAxes | None:
    """The first operand has the shape of the result; the others are settings."""
    return ((0, ctx.axis),)
