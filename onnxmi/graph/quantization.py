"""What the integers of a quantised operator stand for, read off its operands and what follows it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from onnxmi.graph.codings import Affine, Coding, Nibbles
from onnxmi.model import Graph, Node
from onnxmi.operators.layouts import Quantised


@dataclass(frozen=True)
class Reading:
    """The operator in numbers.

    Attributes
    ----------
    coding : Coding
        Of the weights; without scales where they are not found.
    read : pair of float or None
        Scale and zero point of the activation, where they are stored.
    end : Node
        What makes the product: the operator, or what scales it.
    """

    coding: Coding
    read: tuple[float, float] | None
    end: Node


def read_quantised(graph: Graph, node: Node, quantised: Quantised, axis: int) -> Reading | None:
    """Return what an operator's integers stand for; None where zero points or scales are not stored.

    Parameters
    ----------
    axis : int
        That of the weights on which scales and zero points may be several.
    """
    zero = node.operand(quantised.zero)
    if zero and not graph.is_constant(zero):
        return None
    if quantised.scale is None:
        end, scale = _scaled_later(graph, node)
        return Reading(Affine(scale, zero, axis), None, end)
    scale_name = node.inputs[quantised.scale]
    if not graph.is_constant(scale_name):
        return None
    if quantised.packed:
        whole = node.attributes.get("bits", 4) == 4 and not node.operand(quantised.zero) and not node.operand(4)
        blocks = graph.constant_shape(node.inputs[1])[1] if graph.is_constant(node.inputs[1]) else 0
        return Reading(Nibbles((scale_name,), blocks), None, node) if whole and blocks else None
    coding = Affine((scale_name,), zero, axis)
    if quantised.read is None:
        return Reading(coding, None, node)
    scale_read, zero_read = (_number(graph, node.operand(operand)) for operand in quantised.read)
    return None if scale_read is None or zero_read is None else Reading(coding, (scale_read, zero_read), node)


def _number(graph: Graph, name: str) -> float | None:
    """A stored number; 0 where it is absent."""
    if not name:
        return 0.0
    one = graph.is_constant(name) and prod(graph.constant_shape(name)) == 1
    return float(graph.constant(name).reshape(-1)[0]) if one else None


def _scaled_later(graph: Graph, node: Node) -> tuple[Node, tuple[str, ...]]:
    """Follow a product of integers to where it is cast and multiplied by both scales, as quantisers write it."""
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
