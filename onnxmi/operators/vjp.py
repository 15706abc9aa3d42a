"""What a gradient rule works on: what went into one node, what came out, and the gradient of what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxmi.model import Node
from onnxmi.typing import Array

Gradients = Sequence[Array | None]


class NoGradientError(Exception):
    """What a node does turned out to be none of what its rule knows."""


@dataclass(frozen=True, eq=False)
class VjpContext:
    """One run of one node.

    Attributes
    ----------
    node : Node
        The operator.
    values : callable(name) returning array
        What a tensor held; floating-point numbers narrower than float32 as float32.
    output_gradients : tuple of array or None
        Gradient of every output; None where nothing depends on it.
    requested : frozenset of int
        Positions of the operands whose gradients are asked for.
    opset : int
        Version of the standard operators.
    """

    node: Node
    values: Callable[[str], Array]
    output_gradients: Gradients
    requested: frozenset[int]
    opset: int

    @cached_property
    def x(self) -> Array:
        """The first operand."""
        return self.values(self.node.inputs[0])

    @cached_property
    def y(self) -> Array:
        """The first output."""
        return self.values(self.node.outputs[0])

    @property
    def g(self) -> Array:
        """Gradient of the first output; zero where only others count."""
        first = self.output_gradients[0]
        return np.zeros(self.y.shape, np.float32) if first is None else first

    def operand(self, position: int) -> Array | None:
        """Return the value of an operand; None where it is absent."""
        name = self.node.operand(position)
        return self.values(name) if name else None

    def integers(self, position: int, attribute: str) -> tuple[int, ...] | None:
        """Return integers that are an operand or, in older versions, an attribute; None where there are none."""
        stored = self.operand(position)
        given = stored if stored is not None else self.node.attributes.get(attribute)
        return None if given is None else tuple(int(value) for value in np.reshape(given, -1))

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return self.node.attributes.get(name, default)

    def first_only(self, gradient: Array) -> Gradients:
        """Give the first operand's gradient alone."""
        return (gradient,)


VjpRule = Callable[[VjpContext], Gradients]


def sum_to_shape(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which a value of that shape was broadcast."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    gradient = gradient.sum(axis=tuple(range(extra))) if extra else gradient
    spread = tuple(axis for axis, size in enumerate(shape) if size == 1 != gradient.shape[axis])
    return gradient.sum(axis=spread, keepdims=True) if spread else gradient


ALL_OPERANDS = frozenset(range(64))


def any_settings(node: Node) -> bool:
    """Whatever the settings and operands are."""
    return True


def with_settings(**usual: Any) -> Callable[[Node], bool]:
    """Whether settings are absent or as usual."""
    return lambda node: all(node.attributes.get(name, value) == value for name, value in usual.items())


def without_operands(*places: int, **usual: Any) -> Callable[[Node], bool]:
    """Whether operands are absent, and settings absent or as usual."""
    return lambda node: not any(map(node.operand, places)) and with_settings(**usual)(node)


@dataclass(frozen=True)
class Vjp:
    """The gradient of an operator: the vector-Jacobian product.

    Attributes
    ----------
    rule : VjpRule
        Gradients of the operands from those of the outputs.
    operands : frozenset of int
        Positions of the operands whose gradients it gives.
    supports : function of (node)
        Whether the rule knows a node's settings and optional operands.
    all_outputs : bool
        The rule takes the gradients of later outputs, too.
    """

    rule: VjpRule
    operands: frozenset[int] = frozenset({0})
    supports: Callable[[Node], bool] = any_settings
    all_outputs: bool = False
