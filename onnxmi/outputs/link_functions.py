"""The functions that turn logits into probabilities, as one operator or written out by exporters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxmi.model import Graph, Node
from onnxmi.outputs.view import Link
from onnxmi.runtime.probe import Probe

Axes = tuple[int, ...]

LINKS: Mapping[str, Link] = {"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "softmax"}
FLATTENS_BELOW = 13  # opset below which Softmax runs over its axis and all behind it
# Operators between a sum over the axis and the division by it: they repeat it, or keep it from being 0.
_REPEATS = frozenset({"Expand", "Reshape", "Unsqueeze", "Identity", "Cast", "Max", "Clip", "Add"})


@dataclass(frozen=True)
class LinkFunction:
    """A function of logits.

    Attributes
    ----------
    name : str
        The operator's name, for people.
    link : str
        Which function.
    argument : str
        The logits.
    axes : tuple of int or None
        The axes that a softmax runs over, not negative.
    """

    name: str
    link: Link
    argument: str
    axes: Axes | None = None


def find_link_function(graph: Graph, seen: Probe, node: Node) -> LinkFunction | None:
    """Return the function that a node applies to logits; None where it is none."""
    link = LINKS.get(node.op)
    if link == "softmax":
        return LinkFunction(node.op, link, node.operand(0), _softmax_axes(graph, seen, node))
    if link is not None:
        return LinkFunction(node.op, link, node.operand(0))
    return _decomposed_softmax(graph, seen, node) or _decomposed_sigmoid(graph, node)


def _softmax_axes(graph: Graph, seen: Probe, node: Node) -> Axes:
    rank = len(seen.shapes[node.operand(0)])
    flattens = graph.opset < FLATTENS_BELOW
    axis = int(node.attributes.get("axis", 1 if flattens else -1)) % rank
    return tuple(range(axis, rank)) if flattens else (axis,)


def _decomposed_softmax(graph: Graph, seen: Probe, node: Node) -> LinkFunction | None:
    """exp(x - max(x)) / sum(exp(x - max(x))), with or without the maximum."""
    above = graph.producers.get(node.operand(0))
    if node.op != "Div" or above is None or above.op != "Exp":
        return None
    total = _behind(graph, node.operand(1), "ReduceSum")
    if total is None or total.operand(0) != above.outputs[0]:
        return None
    axes = named_axes(graph, seen, total, len(seen.shapes.get(total.operand(0), ())))
    argument = above.operand(0)
    shift = graph.producers.get(argument)
    if shift is not None and shift.op == "Sub":
        most = _behind(graph, shift.operand(1), "ReduceMax")
        if most is not None and most.operand(0) == shift.operand(0):
            argument = shift.operand(0)
    return LinkFunction("softmax", "softmax", argument, axes) if axes else None


def _decomposed_sigmoid(graph: Graph, node: Node) -> LinkFunction | None:
    """1 / (1 + exp(-x))."""
    if node.op == "Div" and _is_one(graph, node.operand(0)):
        below = graph.producers.get(node.operand(1))
    elif node.op == "Reciprocal":
        below = graph.producers.get(node.operand(0))
    else:
        return None
    if below is None or below.op != "Add" or not any(_is_one(graph, name) for name in below.inputs):
        return None
    makers = [graph.producers.get(name) for name in below.inputs]
    power = next((maker for maker in makers if maker is not None and maker.op == "Exp"), None)
    negated = graph.producers.get(power.operand(0)) if power is not None else None
    return (
        LinkFunction("sigmoid", "sigmoid", negated.operand(0)) if negated is not None and negated.op == "Neg" else None
    )


def _behind(graph: Graph, name: str, wanted: str) -> Node | None:
    """The operator of a kind behind those that repeat what it makes."""
    node = graph.producers.get(name)
    while node is not None and node.op in _REPEATS:
        moving = [read for read in node.inputs if read in graph.producers and read not in graph.sized]
        node = graph.producers[moving[0]] if len(moving) == 1 else None
    return node if node is not None and node.op == wanted else None


def _is_one(graph: Graph, name: str) -> bool:
    return graph.is_constant(name) and bool(np.all(graph.constant(name) == 1))


def named_axes(graph: Graph, seen: Probe, node: Node, rank: int) -> Axes | None:
    """Axes that a node names by operand or attribute, of a tensor of `rank` axes; None where they are not known."""
    name = node.operand(1)
    value = node.attributes.get("axes")
    if name:
        value = graph.constant(name) if graph.is_constant(name) else seen.values.get(name)
    return None if value is None or not rank else tuple(int(axis) % rank for axis in np.reshape(value, -1))
