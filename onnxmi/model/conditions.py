"""Conditions of branches that are known before a run: from stored tensors, and from the declared shapes of the inputs.

onnxruntime holds every run to the declared shapes: the rank of a tensor, or an axis that is declared with its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxmi.model.bodies import STANDARD_DOMAINS, all_bodies, bodies_of, constant_tensor, nested_nodes
from onnxmi.model.inferred import inferred
from onnxmi.typing import Array

_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_LARGE = 4096  # entries: what conditions are made of is small


class Conditions:
    """The values that conditions are known to have.

    Parameters
    ----------
    proto : onnx.ModelProto
        In the normal form.
    assumed : mapping of str to bool
        First result of an If -> the value that its condition is taken to have.
    """

    def __init__(self, proto: onnx.ModelProto, assumed: Mapping[str, bool] | None = None) -> None:
        self._assumed = assumed or {}
        self._opsets = list(proto.opset_import)
        self._stored = {tensor.name: tensor for tensor in proto.graph.initializer}
        inputs = {value.name for value in proto.graph.input}
        self._makers = {name: node for node in nested_nodes(proto.graph) for name in node.output if name}
        self._known: dict[str, Array | None] = dict.fromkeys(inputs & self._stored.keys())  # a caller may replace them
        self._shapes: dict[str, list[int | None]] = {}
        known = inferred(without_claims(proto), values=True).graph
        graphs = [known, *all_bodies(known)]
        for value in (value for graph in graphs for value in (*graph.input, *graph.value_info, *graph.output)):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                self._shapes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in dims]

    def holds(self, node: onnx.NodeProto) -> bool | None:
        """Return whether the condition of an If holds in every run; None where that is not known."""
        if node.output[0] in self._assumed:
            return self._assumed[node.output[0]]
        value = self.value(node.input[0])
        return None if value is None or value.size != 1 else bool(value.reshape(-1)[0])

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


def without_claims(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy for shape inference, without the shapes that a file declares of inner tensors and outputs.

    No run is held to those. Of large stored tensors only the shapes are left.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    given = {value.name for value in made.graph.input}
    for index in reversed(range(len(made.graph.initializer))):
        tensor = made.graph.initializer[index]
        if np.prod(tensor.dims) > _LARGE:
            if tensor.name not in given:
                made.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            del made.graph.initializer[index]
    for graph in (made.graph, *all_bodies(made.graph)):
        del graph.value_info[:]
        for value in (*graph.output, *(graph.input if graph is not made.graph else ())):
            value.type.tensor_type.ClearField("shape")
    return made


def _part(node: onnx.NodeProto, shape: list[int | None]) -> list[int | None]:
    """The sizes that a Shape node gives."""
    given: dict[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
    return shape[given.get("start", 0) : given.get("end", len(shape))]
