"""The activation behind a linear operator: nodes that turn each entry of its result, and nothing else, into another.

They are found by what they do and not by their names: a SiLU is a Sigmoid and a Mul, a Gelu five nodes or one, a
Hardswish may be an Add, a Clip, a Mul and a Div. Whatever they are, they are run as the model has them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxmi.errors import ModelError
from onnxmi.model import Model, Node
from onnxmi.operators.elementwise import acts_on_entries
from onnxmi.operators.registry import operator_of
from onnxmi.runtime.session import Session, open_session
from onnxmi.typing import Array

MOST_NODES = 12  # that one activation is made of
GRID = np.linspace(-16.0, 16.0, 4_097, dtype=np.float32)[None]  # arguments that slopes are looked up on
STEEPEST = 4.0  # slope: what is steeper multiplies errors, and bounds nothing
_ARGUMENT = "argument"


@dataclass(frozen=True, eq=False)
class Activation:
    """A function of one number, as onnxruntime computes it.

    Attributes
    ----------
    session : Session
        Runs it.
    steepest : float
        Its largest slope.
    """

    session: Session
    steepest: float

    def __call__(self, arguments: Array) -> Array:
        """Values, float32, at arguments of any shape."""
        flat = arguments.astype(np.float32).reshape(1, -1)
        (values,) = self.session.run({_ARGUMENT: flat}).values()
        return values.reshape(arguments.shape)  # numbers may be stored with axes of their own


def find_activation(model: Model, tensor: str) -> Activation | None:
    """Look for the activation that a tensor goes through; None where there is none, or it is a straight line."""
    nodes = _entrywise_nodes(model, tensor)
    if not nodes:
        return None
    graph = model.graph
    constants = {name for node in nodes for name in node.inputs if graph.is_constant(name)}
    protos = [_renamed(graph.node_protos[node.index], tensor) for node in nodes]
    # In float32 whatever the model's type is: only the shape of the function matters here.
    stored = [onnx.numpy_helper.from_array(_as_float32(graph.constant(name)), name) for name in sorted(constants)]
    return _activation(protos, nodes[-1].outputs[0], stored, model.proto.opset_import, model.proto.ir_version)


def rectifier() -> Activation:
    """Make a Relu, where an operator applies it to its own result."""
    node = onnx.helper.make_node("Relu", [_ARGUMENT], ["value"])
    made = _activation([node], "value", [], [onnx.helper.make_opsetid("", 17)], 8)
    assert made is not None
    return made


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
    if not acts_on_entries(operator) or operator.copies or node.bodies or node.depth or len(node.outputs) != 1:
        return False
    return all(
        name in inner or (graph.is_constant(name) and np.prod(graph.constant_shape(name)) == 1)
        for name in filter(None, node.inputs)
    )


def _all_read_by(model: Model, tensors: Collection[str], nodes: Sequence[Node]) -> bool:
    graph, indices = model.graph, {node.index for node in nodes}
    readers = {reader.index for name in tensors for reader, _ in graph.consumers.get(name, ())}
    return readers <= indices and graph.exposed.isdisjoint(tensors)


def _renamed(proto: onnx.NodeProto, tensor: str) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(proto)
    made.input[:] = [_ARGUMENT if name == tensor else name for name in proto.input]
    return made


def _as_float32(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _activation(
    nodes: Sequence[onnx.NodeProto],
    result: str,
    stored: Sequence[onnx.TensorProto],
    opsets: Sequence[onnx.OperatorSetIdProto],
    ir_version: int,
) -> Activation | None:
    argument = onnx.helper.make_tensor_value_info(_ARGUMENT, onnx.TensorProto.FLOAT, [None, None])
    graph = onnx.helper.make_graph(nodes, "activation", [argument], [onnx.ValueInfoProto(name=result)], stored)
    try:
        session = open_session(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), threads=1)
        (values,) = session.run({_ARGUMENT: GRID}).values()
    except ModelError:  # it mixes types, or has functions of its own
        return None
    if values.dtype != np.float32 or values.size != GRID.size or not np.isfinite(values).all():
        return None
    slopes = np.diff(values.reshape(-1).astype(np.float64)) / np.diff(GRID[0])
    straight = np.ptp(slopes) <= 1e-3 * np.abs(slopes).max()
    steepest = float(np.abs(slopes).max())
    return None if straight or steepest > STEEPEST else Activation(session, steepest)
