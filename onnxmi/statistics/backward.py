"""Reverse differentiation of a graph: gradients of inner tensors from the gradients of the outputs.

There is no training here, and no gradient of a weight: the question is how sensitive outputs are to inner changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from onnxmi.errors import stage
from onnxmi.model import Graph, Node
from onnxmi.operators.registry import operator_of
from onnxmi.operators.vjp import NoGradientError, Vjp, VjpContext
from onnxmi.typing import Array

Result = TypeVar("Result")


@dataclass(frozen=True)
class Backward:
    """The way back from a graph's outputs to inner tensors.

    Attributes
    ----------
    graph : Graph
        The model's graph.
    wanted : frozenset of str
        Tensors whose gradients are asked for.
    targets : tuple of str
        Tensors to go back from; the graph's outputs where none are named.
    """

    graph: Graph
    wanted: frozenset[str]
    targets: tuple[str, ...] = ()

    @cached_property
    def reached(self) -> frozenset[str]:
        """The wanted tensors whose gradients are complete: every path from them to an output is known."""
        return self.wanted - self._lost

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Tensors whose values are needed on the backward pass."""
        names = (name for node in self._path for name in (*node.inputs, *node.outputs))
        return tuple(dict.fromkeys(name for name in names if name and not self.graph.is_constant(name)))

    @cached_property
    def _active(self) -> frozenset[str]:
        """Tensors that depend on a wanted one."""
        active = set(self.wanted)
        for node in self.graph.nodes:
            if active.intersection((*node.inputs, *node.captures)):
                active.update(_smooth(node))
        return frozenset(active)

    @cached_property
    def _useful(self) -> frozenset[str]:
        """Tensors that a target depends on in a way that gradients flow through."""
        useful = set(self.targets or (info.name for info in self.graph.outputs))
        for node in reversed(self.graph.nodes):
            if useful.intersection(_smooth(node)):
                useful.update(name for name in (*node.inputs, *node.captures) if name)
        return frozenset(useful)

    @cached_property
    def _path(self) -> tuple[Node, ...]:
        """Nodes between the wanted tensors and the outputs, in graph order."""
        return tuple(node for node in self.graph.nodes if self._between(node) and not self._objects(node))

    @cached_property
    def _lost(self) -> frozenset[str]:
        """Tensors whose gradients lack what an unknown operator would hand back."""
        lost: set[str] = set()
        for node in reversed(self.graph.nodes):
            if self._between(node) and (self._objects(node) or lost.intersection(node.outputs)):
                lost.update((*node.inputs, *node.captures))
        return frozenset(lost)

    def _between(self, node: Node) -> bool:
        read = (*node.inputs, *node.captures)
        return bool(self._useful.intersection(_smooth(node)) and self._active.intersection(read))

    def _objects(self, node: Node) -> bool:
        """Whether the backward pass through a node is unknown."""
        vjp = vjp_of(node)
        if vjp is None or node.captures:
            return True
        operands = {place for place, name in enumerate(node.inputs) if name in self._active}
        # A rule for the first output alone would lose what flows through the others.
        asides = () if vjp.all_outputs else set(_smooth(node)) - {node.outputs[0]}
        return not operands <= vjp.operands or bool(self._useful.intersection(asides))

    def __call__(self, values: Mapping[str, Array], upper: Mapping[str, Array]) -> dict[str, Array]:
        """Go back once.

        Parameters
        ----------
        values : mapping
            What the tensors in `reads` held.
        upper : mapping
            Gradients of the targets.

        Returns
        -------
        dict
            Gradients of the tensors in `reached`, float32, of their shapes. One that no output depends on is absent.

        Raises
        ------
        NoGradientError
            If a node turned out to do what its rule does not know.
        """
        gradients: dict[str, Array] = {name: gradient for name, gradient in upper.items() if name in self._active}

        for node in reversed(self._path):
            if not any(name in gradients for name in node.outputs if name):
                continue
            ctx = self.context(node, values, gradients)
            vjp = vjp_of(node)
            assert vjp is not None
            lower = apply_rule(vjp.rule, ctx)
            # A gradient is complete when all its readers have been passed, and is freed after its maker.
            for name in node.outputs:
                if name not in self.wanted:
                    gradients.pop(name, None)
            for place in sorted(ctx.requested):
                gradient, name = lower[place], node.inputs[place]
                if gradient is not None:
                    # Paths add up: a tensor that several nodes read gets a gradient from each.
                    gradients[name] = gradients[name] + gradient if name in gradients else gradient
        return {name: gradient for name, gradient in gradients.items() if name in self.reached}

    def context(self, node: Node, values: Mapping[str, Array], gradients: Mapping[str, Array]) -> VjpContext:
        """What a rule of a node works on: the values of tensors, and the gradients of the node's outputs."""

        def value(name: str) -> Array:
            array = self.graph.constant(name) if self.graph.is_constant(name) else values[name]
            # float16 and bfloat16 gradients would underflow where many factors are small.
            return array.astype(np.float32) if array.dtype.kind in "fV" and array.dtype != np.float64 else array

        requested = frozenset(place for place, name in enumerate(node.inputs) if name in self._active)
        upper = tuple(gradients.get(name) for name in node.outputs)
        return VjpContext(node, value, upper, requested, self.graph.opset)


def apply_rule(rule: Callable[[VjpContext], Result], ctx: VjpContext) -> Result:
    """Apply a rule. What it stumbles over is nothing that the model should be refused for.

    Raises
    ------
    NoGradientError
        If it stumbles.
    """
    try:
        with (
            stage("backward pass", ctx.node.label),
            np.errstate(all="ignore"),
        ):  # what is not finite is left out by who asks
            return rule(ctx)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise NoGradientError(f"{ctx.node.label}: {error}") from error


def vjp_of(node: Node) -> Vjp | None:
    """Return the gradient of a node's operator; None where it, or one of its settings, is not known."""
    vjp = operator_of(node).vjp
    return vjp if vjp is not None and vjp.supports(node) else None


def _smooth(node: Node) -> tuple[str, ...]:
    """Outputs that change by little where what they are made of does."""
    steps = operator_of(node).piecewise_constant
    return tuple(name for i, name in enumerate(node.outputs) if name and not steps(node, i))
