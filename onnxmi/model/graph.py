"""A read-only view of a model's graph, in plain Python values: what the rules and the stages look at.

The nodes of a model in the normal form (see `onnxmi.model.bodies`) are one list, with those of bodies before the node
that the body is of. In other models the nodes inside bodies are not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxmi.model.bodies import STANDARD_DOMAINS, Body, bodies_of, free_names, is_normal, links_of
from onnxmi.model.mapped import tensor_values
from onnxmi.typing import Array

OPTIONAL_DEFAULTS = 4  # format version from which an initializer that is also an input is a default value
_RANDOM = frozenset({"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"})


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes
    ----------
    index : int
        Position in the list of all nodes.
    name, op, domain : str
        The standard domain is always spelled "".
    inputs, outputs : tuple of str
        Tensor names; "" where an optional one is absent.
    attributes : mapping
        Plain Python values; tensors as arrays; subgraphs are not included.
    captures : tuple of str
        Outer tensors that a subgraph of this node (If, Loop, Scan) reads.
    bodies : tuple of Body
        Its subgraphs, where their nodes are shown.
    depth, loops : int
        How many bodies it is inside of, and how many of them are those of a Loop or Scan.
    """

    index: int
    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    captures: tuple[str, ...] = ()
    bodies: tuple[Body, ...] = ()
    depth: int = 0
    loops: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of all tensors that its results depend on: what its bodies read and give, too."""
        given = tuple(name for body in self.bodies for name in body.outputs)
        return (*filter(None, self.inputs), *self.captures, *given)

    def operand(self, position: int) -> str:
        """Name of the tensor at an operand position; "" where it is absent."""
        return self.inputs[position] if position < len(self.inputs) else ""

    @property
    def result(self) -> str:
        """Name of the first output that it has: a recurrent operator may leave the first ones out."""
        return next((name for name in self.outputs if name), "")

    @property
    def label(self) -> str:
        """A name for people: the node's own, or that of what it makes."""
        return self.name or self.result or f"#{self.index}"


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output: its name, numpy dtype (None if unknown) and dimensions (int, symbol or None)."""

    name: str
    dtype: np.dtype[Any] | None
    dims: tuple[int | str | None, ...] | None


class Graph:
    """The graph of a ModelProto with the bodies of its nodes, indexed by name."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The operators in file order (topological by the ONNX specification), those of a body before its node."""
        return self._listed[0]

    @property
    def node_protos(self) -> tuple[onnx.NodeProto, ...]:
        """What the file has of each node."""
        return self._listed[1]

    @cached_property
    def _listed(self) -> tuple[tuple[Node, ...], tuple[onnx.NodeProto, ...]]:
        found: list[tuple[Node, onnx.NodeProto]] = []
        _list_nodes(self._proto.graph, (0, 0), found, shown=is_normal(self._proto))
        return tuple(node for node, _ in found), tuple(proto for _, proto in found)

    @cached_property
    def main(self) -> tuple[Node, ...]:
        """The operators outside all bodies."""
        return tuple(node for node in self.nodes if not node.depth)

    @cached_property
    def owners(self) -> Mapping[int, Node]:
        """Index of a node inside a body -> the node that the body is of."""
        return {index: node for node in self.nodes for body in node.bodies for index in body.nodes}

    def outermost(self, node: Node) -> Node:
        """Return the node of the main graph that a node is inside of; itself where it is in no body."""
        return self.outermost(self.owners[node.index]) if node.depth else node

    @cached_property
    def body_inputs(self) -> tuple[str, ...]:
        """Inputs of the bodies that are shown: tensors that no node makes."""
        return tuple(name for node in self.nodes for body in node.bodies for name in body.inputs)

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs a caller must feed: graph inputs that are not initializers."""
        return tuple(_info(value) for value in self._proto.graph.input if value.name not in self._tensors)

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The graph's outputs."""
        return tuple(_info(value) for value in self._proto.graph.output)

    @cached_property
    def overridable(self) -> frozenset[str]:
        """Initializers that are also graph inputs: a caller may replace them, so they are no constants.

        Before version 4 of the format every initializer had to be listed as an input: that says nothing there.
        """
        if self._proto.ir_version < OPTIONAL_DEFAULTS:
            return frozenset()
        return frozenset(value.name for value in self._proto.graph.input if value.name in self._tensors)

    @cached_property
    def _tensors(self) -> dict[str, onnx.TensorProto]:
        return {tensor.name: tensor for tensor in self._proto.graph.initializer}

    @cached_property
    def _constants(self) -> dict[str, Any]:
        """Stored values by name: initializers and Constant nodes alike."""
        stored: dict[str, Any] = dict(self._tensors)
        for node in self.nodes:
            if node.op == "Constant" and node.domain == "":
                stored[node.outputs[0]] = next(iter(node.attributes.values()), None)
        return stored

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of all stored tensors, initializers first."""
        return tuple(self._constants)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is stored in the file (and cannot be fed from outside)."""
        return name in self._constants and name not in self.overridable

    def constant(self, name: str) -> Array:
        """Return the value of a stored tensor (do not write into it)."""
        stored = self._constants[name]
        return tensor_values(stored) if isinstance(stored, onnx.TensorProto) else np.asarray(stored)

    def constant_dtype(self, name: str) -> np.dtype[Any]:
        """Return the type of a stored tensor, without reading it."""
        stored = self._constants[name]
        if isinstance(stored, onnx.TensorProto):
            return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(stored.data_type))
        return np.asarray(stored).dtype

    def constant_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a stored tensor, without reading it."""
        stored = self._constants[name]
        return tuple(stored.dims) if isinstance(stored, onnx.TensorProto) else np.shape(stored)

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """Tensor name -> the node that makes it."""
        return {out: node for node in self.nodes for out in node.outputs if out}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[tuple[Node, int], ...]]:
        """Tensor name -> the (node, operand position) pairs that read it."""
        found: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for operand, name in enumerate(node.inputs):
                if name:
                    found.setdefault(name, []).append((node, operand))
        return {name: tuple(uses) for name, uses in found.items()}

    @cached_property
    def exposed(self) -> frozenset[str]:
        """Tensors that are read elsewhere than at an operand: by the caller, or inside a body that is not shown.

        So are those that a body gives or that it reads from outside. Stored tensors are read by the nodes inside.
        """
        inside = {name for node in self.nodes if node.bodies for name in node.captures if self.is_constant(name)}
        captured = (name for node in self.nodes for name in node.reads[sum(map(bool, node.inputs)) :])
        return frozenset((*(info.name for info in self.outputs), *(name for name in captured if name not in inside)))

    def only_reader(self, name: str) -> Node | None:
        """Return the node that alone reads a tensor; None where there are others, or none."""
        readers = self.consumers.get(name, ())
        return readers[0][0] if len(readers) == 1 and name not in self.exposed else None

    @cached_property
    def folded(self) -> frozenset[str]:
        """Every tensor whose value depends on stored tensors alone."""
        return self._derived(frozenset())

    @cached_property
    def sized(self) -> frozenset[str]:
        """Every tensor whose value depends on stored tensors and the shapes of others alone."""
        return self._derived(frozenset({"Shape", "Size"}))

    def _derived(self, sources: frozenset[str]) -> frozenset[str]:
        known = {name for name in self._constants if name not in self.overridable}
        for node in self.nodes:
            plain = node.inputs and not node.captures and not node.bodies and node.op not in _RANDOM
            if node.op in sources or (plain and all(name in known or not name for name in node.inputs)):
                known.update(out for out in node.outputs if out)
        return frozenset(known)

    @cached_property
    def opset(self) -> int:
        """Version of the standard operator set."""
        versions = [entry.version for entry in self._proto.opset_import if entry.domain in STANDARD_DOMAINS]
        return max(versions, default=0)


def _list_nodes(
    graph: onnx.GraphProto, depths: tuple[int, int], found: list[tuple[Node, onnx.NodeProto]], *, shown: bool
) -> tuple[int, ...]:
    """Append the nodes of a graph, those of bodies before the node that they are of; return the graph's own indices."""
    own = []
    for node in graph.node:
        bodies = []
        for attribute, body in bodies_of(node) if shown else ():
            within = depths[0] + 1, depths[1] + (node.op_type != "If")
            inner = _list_nodes(body, within, found, shown=shown)
            read, given = (tuple(value.name for value in values) for values in (body.input, body.output))
            bodies.append(Body(attribute, read, given, inner, links_of(node, body)))
        own.append(len(found))
        found.append((_node(len(found), node, tuple(bodies), depths), node))
    return tuple(own)


def _node(index: int, node: onnx.NodeProto, shown: tuple[Body, ...], depths: tuple[int, int]) -> Node:
    bodies = [body for _, body in bodies_of(node)]
    return Node(
        index=index,
        name=node.name,
        op=node.op_type,
        domain="" if node.domain in STANDARD_DOMAINS else node.domain,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes={a.name: _attribute(a) for a in node.attribute if a.type not in _GRAPHS},
        captures=tuple(sorted({name for body in bodies for name in free_names(body)})),
        bodies=shown,
        depth=depths[0],
        loops=depths[1],
    )


_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    if attribute.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(attribute.t)
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    if not value.type.HasField("tensor_type"):
        return TensorInfo(value.name, None, None)
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return TensorInfo(value.name, dtype, None)
    return TensorInfo(value.name, dtype, tuple(_dim(dim) for dim in tensor.shape.dim))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or None
