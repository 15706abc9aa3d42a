"""Pieces of a model that can be run on their own."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from onnxmi.model.graph import Graph, Node
from onnxmi.model.mapped import tensor_values
from onnxmi.typing import Array


class PartialModel:
    """A model that is run piece by piece: the nodes a tensor still needs, and a model of just these."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self._graph = Graph(proto)
        self._weights = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._replaced: set[str] = set()
        self._done: set[int] = set()

    def set_weight(self, name: str, value: Array) -> None:
        """Use another value for a stored tensor from now on, whether an initializer or a Constant node holds it."""
        self._weights[name] = numpy_helper.from_array(value, name)
        self._replaced.add(name)

    def weight(self, name: str) -> Array:
        """Return the value that is used for an initializer by now."""
        return tensor_values(self._weights[name])

    def result_operand(self, result: str, operand: int) -> str:
        """Return the name of an input of the node that makes a tensor."""
        return self._graph.producers[result].inputs[operand]

    def makes(self, tensor: str) -> bool:
        """Whether a node of the model makes a tensor."""
        return tensor in self._graph.producers

    def loops_around(self, tensors: Sequence[str]) -> tuple[int, ...]:
        """Nodes of the main graph whose bodies are given tensors or make them, in order."""
        given = {name: node for node in self._graph.nodes for body in node.bodies for name in body.inputs}
        holders = ((given | dict(self._graph.producers)).get(name) for name in tensors)
        return tuple(sorted({self._graph.outermost(node).index for node in holders if node is not None}))

    def read_by(self, nodes: Sequence[int]) -> list[str]:
        """Tensors that nodes read, themselves or in their bodies."""
        views = [self._graph.nodes[index] for index in nodes]
        return [name for view in views for name in (*view.inputs, *view.captures) if name]

    def nodes_to_run(self, tensors: Sequence[str], given: Container[str] = ()) -> tuple[int, ...]:
        """Nodes that have not run yet and that the tensors depend on, in order; what is given depends on nothing."""
        wanted, found = list(tensors), set[int]()
        while wanted:
            name = wanted.pop()
            known = name in given or name in self._replaced
            node = None if known else self._graph.producers.get(name)
            if node is not None and node.index not in self._done and node.index not in found:
                found.add(node.index)
                wanted.extend((*node.inputs, *node.captures))
        return tuple(sorted(found))

    def made_before(self, tensor: str) -> frozenset[str]:
        """Return the results of all nodes that a tensor depends on, those in bodies, too."""
        wanted, found = [tensor], set[str]()
        while wanted:
            node = self._graph.producers.get(wanted.pop())
            if node is not None and found.isdisjoint(node.outputs):
                found.update(filter(None, node.outputs))
                wanted.extend(node.reads)
        return frozenset(found)

    def mark_as_run(self, nodes: Sequence[int]) -> None:
        """Note that nodes have run."""
        self._done.update(nodes)

    @property
    def made(self) -> frozenset[str]:
        """Tensors that nodes which have run make."""
        return frozenset(name for index in self._done for name in self._graph.nodes[index].outputs if name)

    def live_after(self) -> set[str]:
        """Tensors that nodes which have not run yet will read, and the graph's outputs."""
        later = (node for node in self._graph.main if node.index not in self._done)
        read = {name for node in later for name in (*node.inputs, *node.captures)}
        return read | {info.name for info in self._graph.outputs}

    def model(self, nodes: Sequence[int], given: Mapping[str, Array], wanted: set[str]) -> onnx.ModelProto:
        """Build a model of some nodes.

        Parameters
        ----------
        nodes : sequence of int
            As from `nodes_to_run`.
        given : mapping of tensor name to array
            Tensors that are at hand; those that the nodes read become inputs.
        wanted : set of str
            Those of the nodes' results that are in this set become outputs.
        """
        chosen = [self._graph.node_protos[index] for index in nodes]
        views = [self._graph.nodes[index] for index in nodes]
        made = {name for view in views for name in view.outputs if name}
        read = {name for view in views for name in (*view.inputs, *view.captures) if name and name not in made}
        counted = {name for view in views for name in _entries_counted(view)}
        fed = [name for name in sorted(read - self._replaced) if name in given]
        graph = onnx.helper.make_graph(
            chosen,
            "piece",
            [_value(name, given[name], fixed=name in counted) for name in fed],
            [onnx.ValueInfoProto(name=name) for name in sorted(made & wanted)],
            [self._weights[name] for name in sorted(read) if name in self._weights],
        )
        piece = onnx.helper.make_model(graph, opset_imports=self._proto.opset_import, ir_version=self._proto.ir_version)
        piece.functions.extend(self._proto.functions)
        return piece


def matrix_function(model: onnx.ModelProto, graph: Graph, nodes: Sequence[Node], argument: str) -> onnx.ModelProto:
    """Build a model of some nodes that takes one tensor of them as a float32 matrix, and gives what the last one makes.

    Stored fractions are float32 in it, too: it computes the same function, whatever type the nodes compute with.
    """
    read = {name for node in nodes for name in node.inputs if graph.is_constant(name)}
    values = {name: graph.constant(name) for name in sorted(read)}
    made = onnx.helper.make_graph(
        [graph.node_protos[node.index] for node in nodes],
        "function",
        [onnx.helper.make_tensor_value_info(argument, onnx.TensorProto.FLOAT, [None, None])],
        [onnx.ValueInfoProto(name=nodes[-1].outputs[0])],
        [
            numpy_helper.from_array(value.astype(np.float32) if value.dtype.kind == "f" else value, name)
            for name, value in values.items()
        ],
    )
    return onnx.helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)


def _entries_counted(node: Node) -> tuple[str, ...]:
    """Inputs whose entries onnxruntime counts before it has their values: one for each axis of the first input."""
    return node.inputs[1:] if node.op in ("Resize", "Upsample") else ()


def _value(name: str, array: Array | list[Array], *, fixed: bool) -> onnx.ValueInfoProto:
    if isinstance(array, list):  # a sequence
        element = onnx.helper.np_dtype_to_tensor_dtype(array[0].dtype) if array else onnx.TensorProto.FLOAT
        return onnx.helper.make_tensor_sequence_value_info(name, element, None)
    element = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
    shape = np.shape(array) if fixed else [None] * np.ndim(array)
    return onnx.helper.make_tensor_value_info(name, element, shape)
