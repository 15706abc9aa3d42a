"""The activation behind a linear operator: nodes that turn each entry of its result, and nothing else, into another.

They are found by what they do and not by their names: a SiLU is a Sigmoid and a Mul, a Gelu five nodes or one, a
Hardswish may be an Add, a Clip, a Mul and a Div. Whatever they are, they are run as the model has them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from onnxmi.errors import ModelError
from onnxmi.model import Model, Node
from onnxmi.model.subgraph import matrix_function
from onnxmi.operators.elementwise import acts_on_entries
from onnxmi.operators.registry import operator_of
from onnxmi.runtime.session import open_session
from onnxmi.typing import Array

MOST_NODES = 12  # that one activation is made of
GRID = np.linspace(-16.0, 16.0, 4_097, dtype=np.float32)  # arguments that slopes are looked up on
STEEPEST = 4.0  # slope: what is steeper multiplies errors, and bounds nothing


@dataclass(frozen=True, eq=False)
class Activation:
    """A function of one number.

    Attributes
    ----------
    values : callable(array)
        Values, float32, at arguments of any shape.
    steepest : float
        Its largest slope.
    """

    values: Callable[[Array], Array]
    steepest: float

    @staticmethod
    def rectifier() -> Activation:
        """Make a Relu."""
        return Activation(lambda arguments: np.maximum(arguments, 0), 1.0)


def find_activation(model: Model, tensor: str) -> Activation | None:
    """Look for the activation that a tensor goes through; None where there is none, or it is a straight line."""
    nodes = _entrywise_nodes(model, tensor)
    if not nodes:
        return None
    try:
        session = open_session(matrix_function(model.proto, model.graph, nodes, tensor), threads=1)

        def values(arguments: Array) -> Array:
            flat = arguments.astype(np.float32).reshape(1, -1)
            (found,) = session.run({tensor: flat}).values()
            return found.reshape(arguments.shape)  # numbers may be stored with axes of their own

        return _bounded(values)
    except ModelError:  # the nodes mix types, or are functions of the model's own
        return None


def _bounded(values: Callable[[Array], Array]) -> Activation | None:
    """Look a function's slopes up; None where they are all alike, or too steep to tell anything."""
    found = values(GRID)
    if found.dtype != np.float32 or not np.isfinite(found).all():
        return None
    slopes = np.diff(found.astype(np.float64)) / np.diff(GRID)
    steepest = float(np.abs(slopes).max())
    straight = np.ptp(slopes) <= 1e-3 * steepest
    return None if straight or steepest > STEEPEST else Activation(values, steepest)


def _entrywise_nodes(model: Model, tensor: str) -> tuple[Node, ...]:
    """Return the nodes, as many as there are, that act on entries and give one tensor for all others to read."""
    graph = model.graph
    inner, nodes, complete = {tensor}, list[Node](), tuple[Node, ...]()
    start = graph.producers[tensor].index + 1 if tensor in graph.producers else 0
    for node in graph.nodes[start:]:
        if inner.isdisjoint(node.inputs) or not _acts_on_entries(model, node, inner):
            continue
        nodes.append(node)
        if _all_read_by(model, inner, nodes):
            complete = tuple(nodes)
        if len(nodes) == MOST_NODES:
            break
        inner.add(node.outputs[0])
    return complete


def _acts_on_entries(model: Model, node: Node, inner: Collection[str]) -> bool:
    """Whether a node makes each entry of some known tensors, and numbers alone, into one entry."""
    operator, graph = operator_of(node), model.graph
    if not acts_on_entries(operator) or operator.copies or node.bodies or len(node.outputs) != 1:
        return False
    return all(
        name in inner or (graph.is_constant(name) and np.prod(graph.constant_shape(name)) == 1)
        for name in filter(None, node.inputs)
    )


def _all_read_by(model: Model, tensors: Collection[str], nodes: Sequence[Node]) -> bool:
    graph, indices = model.graph, {node.index for node in nodes}
    readers = {reader.index for name in tensors for reader, _ in graph.consumers.get(name, ())}
    return readers <= indices and graph.exposed.isdisjoint(tensors)
