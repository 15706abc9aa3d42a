"""Branches whose condition is known: one that is always taken takes the place of its If.

Known is what an input is fixed to; it stays in the interface, and what is fed to it is not read any more. Known is also
what the declared shapes of the inputs decide, which onnxruntime holds every run to: the rank of a tensor, or an axis
that is declared with its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxmi.errors import UsageError
from onnxmi.model.bodies import STANDARD_DOMAINS, bodies_of, constant_tensor, is_normal, nested_nodes
from onnxmi.model.graph import TensorInfo
from onnxmi.typing import Array

_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_LARGE = 4096  # entries: what conditions are made of is small
_TRUTH = {"true": 1, "false": 0}


def read_fixed(texts: Sequence[str], inputs: Sequence[TensorInfo]) -> dict[str, Array]:
    """Read what inputs are fixed to, such as ``sr=16000``.

    Returns
    -------
    dict
        Input -> its value, of its type and shape; axes without a declared size have size one.

    Raises
    ------
    UsageError
        If an input does not exist, or a value does not fit.
    """
    known = {info.name: info for info in inputs}
    fixed: dict[str, Array] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise UsageError(f"--fix {text}: expected NAME=VALUE, such as sr=16000")
        info = known.get(name)
        if info is None:
            raise UsageError(f"--fix {name}: the model has no input {name!r}; it has {', '.join(known)}")
        if info.dtype is None or info.dims is None:
            raise UsageError(f"--fix {name}: the model does not say of what type and shape {name!r} is")
        try:
            number = np.array(_TRUTH.get(value.lower(), value)).astype(np.float64)
        except ValueError as error:
            raise UsageError(f"--fix {name}: {value!r} is not a number") from error
        cast = number.astype(info.dtype)
        if float(cast) != float(number):
            raise UsageError(f"--fix {name}: {value} does not fit into {info.dtype}")
        fixed[name] = np.full([dim if isinstance(dim, int) and dim > 0 else 1 for dim in info.dims], cast)
    return fixed


def with_fixed_inputs(proto: onnx.ModelProto, fixed: Mapping[str, Array]) -> onnx.ModelProto:
    """Return a model with inputs fixed, and without the branches that are never taken then.

    It is the model itself where no input is fixed and no branch is left out.

    Raises
    ------
    UsageError
        If inputs are fixed and the model has bodies that cannot be brought into the normal form.
    """
    if not is_normal(proto):
        if fixed:
            raise UsageError("--fix: the model has bodies that are not looked into")
        return proto
    if not fixed and all(node.op_type != "If" for node in nested_nodes(proto.graph)):
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for name, value in fixed.items():
        stored = f"{name}.fixed"
        made.graph.initializer.append(numpy_helper.from_array(value, stored))
        for node in nested_nodes(made.graph):
            node.input[:] = [stored if read == name else read for read in node.input]
    changed = bool(fixed)
    while _inline(made.graph, _Conditions(made)):  # an inlined branch tells more ranks
        changed = True
    if not changed:
        return proto
    _remove_unused(made.graph)
    return made


class _Conditions:
    """The values that conditions are known to have."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._opsets = list(proto.opset_import)
        self._stored = {tensor.name: tensor for tensor in proto.graph.initializer}
        inputs = {value.name for value in proto.graph.input}
        self._makers = {name: node for node in nested_nodes(proto.graph) for name in node.output if name}
        self._known: dict[str, Array | None] = dict.fromkeys(inputs & self._stored.keys())  # a caller may replace them
        self._shapes: dict[str, list[int | None]] = {}
        inferred = onnx.shape_inference.infer_shapes(_without_claims(proto), data_prop=True)
        graphs = [inferred.graph, *(body for node in nested_nodes(inferred.graph) for _, body in bodies_of(node))]
        for value in (value for graph in graphs for value in (*graph.input, *graph.value_info, *graph.output)):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                self._shapes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in dims]

    def value(self, name: str) -> Array | None:
        """Return a tensor that declared shapes and stored tensors decide; None where they do not."""
        if name not in self._known:
            self._known[name] = None  # until it is known
            self._known[name] = self._work_out(name)
        return self._known[name]

    def _work_out(self, name: str) -> Array | None:
        if name in self._stored:
            tensor = self._stored[name]
            return numpy_helper.to_array(tensor) if np.prod(tensor.dims) <= _LARGE else None
        node = self._makers.get(name)
        if node is None or node.domain not in STANDARD_DOMAINS or node.op_type in _RANDOM or any(bodies_of(node)):
            return None
        if node.op_type in ("Shape", "Size"):
            return self._of_shape(node, self._shapes.get(node.input[0]))
        if node.op_type == "Gather" and (size := self._size_that_is_read(node)) is not None:
            return size
        return self._evaluated(node, name)

    def _of_shape(self, node: onnx.NodeProto, shape: list[int | None] | None) -> Array | None:
        if shape is None:
            return None
        dims = shape if node.op_type == "Size" else _part(node, shape)
        sizes = [size for size in dims if size is not None]
        if len(sizes) < len(dims):
            return None
        return np.array(np.prod(sizes, dtype=np.int64) if node.op_type == "Size" else sizes, dtype=np.int64)

    def _size_that_is_read(self, node: onnx.NodeProto) -> Array | None:
        """One size of a shape of which others may be free."""
        maker, index = self._makers.get(node.input[0]), self.value(node.input[1])
        shape = self._shapes.get(maker.input[0]) if maker is not None and maker.op_type == "Shape" else None
        if shape is None or maker is None or index is None:
            return None
        dims = _part(maker, shape)
        sizes = [dims[int(place)] for place in index.reshape(-1) if -len(dims) <= int(place) < len(dims)]
        if len(sizes) < index.size or None in sizes:
            return None
        return np.array(sizes, dtype=np.int64).reshape(index.shape)

    def _evaluated(self, node: onnx.NodeProto, name: str) -> Array | None:
        tensor = constant_tensor(node)
        if tensor is not None:
            return numpy_helper.to_array(tensor)
        feeds = {read: self.value(read) for read in node.input if read}
        if not feeds or any(value is None for value in feeds.values()):
            return None
        inputs = [onnx.ValueInfoProto(name=read) for read in feeds]
        graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=name)])
        try:
            evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=self._opsets))
            results: Any = evaluator.run([name], feeds)
            return np.asarray(results[0])
        except Exception:  # it raises unrelated types, and does not know every operator
            return None


def _without_claims(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the shapes that a file declares of inner tensors and outputs: no run is held to them."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    bodies = [body for node in nested_nodes(made.graph) for _, body in bodies_of(node)]
    for graph in (made.graph, *bodies):
        del graph.value_info[:]
        for value in (*graph.output, *(graph.input if graph is not made.graph else ())):
            value.type.tensor_type.ClearField("shape")
    return made


def _part(node: onnx.NodeProto, shape: list[int | None]) -> list[int | None]:
    """The sizes that a Shape node gives."""
    given: dict[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
    return shape[given.get("start", 0) : given.get("end", len(shape))]


def _inline(graph: onnx.GraphProto, conditions: _Conditions) -> bool:
    """Put branches that are always taken in the place of their If; return whether there were any."""
    nodes: list[onnx.NodeProto] = []
    types: list[onnx.ValueInfoProto] = []
    changed = False
    for node in graph.node:
        taken = conditions.value(node.input[0]) if node.op_type == "If" else None
        if taken is None or taken.size != 1:
            for _, body in bodies_of(node):
                changed |= _inline(body, conditions)
            nodes.append(node)
            continue
        changed = True
        chosen = "then_branch" if bool(taken.reshape(-1)[0]) else "else_branch"
        body = dict(bodies_of(node))[chosen]
        nodes.extend(body.node)
        types.extend((*body.value_info, *body.output))
        pairs = zip(node.output, body.output, strict=False)
        nodes.extend(
            helper.make_node("Identity", [given.name], [name], name=f"{name}/given") for name, given in pairs if name
        )
    if changed:
        graph.value_info.extend(types)
        _set_nodes(graph, nodes)
    return changed


def _set_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Replace the nodes of a graph; they may be its own."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Take out what nothing reads any more."""
    needed: set[str] = set()
    _remove_unused_nodes(graph, needed)
    made = {name for node in nested_nodes(graph) for name in node.output}
    _keep_named(graph.initializer, needed | {value.name for value in graph.input})
    for one in (graph, *(body for node in nested_nodes(graph) for _, body in bodies_of(node))):
        _keep_named(one.value_info, needed | made)


def _remove_unused_nodes(graph: onnx.GraphProto, needed: set[str]) -> None:
    """Take nodes out of a graph and its bodies, and add what the others read to what is needed."""
    needed.update(value.name for value in graph.output)
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            for _, body in bodies_of(node):
                _remove_unused_nodes(body, needed)
            needed.update(node.input)
            kept.append(node)
    _set_nodes(graph, kept[::-1])


def _keep_named(entries: Any, names: set[str]) -> None:
    for index in reversed(range(len(entries))):
        if entries[index].name not in names:
            del entries[index]
