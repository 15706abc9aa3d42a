"""Edits on copies of a ModelProto."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxmi.model.bodies import bodies_of, is_normal, nested_nodes
from onnxmi.model.graph import OPTIONAL_DEFAULTS
from onnxmi.model.mapped import SpillFile, is_memory_mapped, tensor_values
from onnxmi.typing import Array


class Editor:
    """A copy of a model under change. Nodes are addressed by their index in the original until `finish`."""

    def __init__(self, proto: onnx.ModelProto, scratch: SpillFile | None = None) -> None:
        """Copy a model; `spill_file` takes the large tensors of one that is lean."""
        self._stored = scratch.tensor if scratch is not None and is_memory_mapped(proto) else _in_message
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(proto)
        graph = self._proto.graph
        self._nodes = list(nested_nodes(graph) if is_normal(self._proto) else graph.node)
        self._bodies = [body for node in self._nodes for _, body in bodies_of(node)]
        self._before: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._after: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._constants = {node.output[0]: node for node in self._nodes if node.op_type == "Constant"}
        self._infos = {value.name: value for value in graph.value_info}
        self._infos |= {value.name: value for value in (*graph.input, *graph.output)}
        for body in self._bodies:
            self._infos |= {value.name: value for value in (*body.value_info, *body.input, *body.output)}
        self._replaced: set[str] = set()
        self._removed: set[int] = set()
        self._untold: set[str] = set()
        self._names = set(self._initializers) | {value.name for value in graph.input}
        self._names.update(name for node in self._nodes for name in node.output)
        self._names.update(value.name for body in self._bodies for value in body.input)

    # -- tensors --------------------------------------------------------------------------------------------------

    def set_constant(self, name: str, value: Array) -> None:
        """Replace the value of an initializer or of a Constant node."""
        if name in self._initializers:
            self._initializers[name].CopyFrom(self._stored(name, value))
            return
        node = self._constants[name]
        del node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(value)))

    def add_initializer(self, like: str, value: Array) -> str:
        """Store a new tensor under a free name made from `like`; return the name."""
        name = self.free_name(like)
        self._initializers[name] = self._proto.graph.initializer.add()
        self._initializers[name].CopyFrom(self._stored(name, value))
        if self._proto.ir_version < OPTIONAL_DEFAULTS:
            kind = self._initializers[name].data_type
            self._proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
        return name

    def free_name(self, like: str) -> str:
        """Return a tensor name that is not taken yet, and take it."""
        number = 1
        while (name := f"{like}.cut{number}") in self._names:
            number += 1
        self._names.add(name)
        return name

    def stored(self, node: int, operand: int | None) -> Array | None:
        """Return the value of an initializer that a node reads by now; None where it reads none."""
        inputs = self._nodes[node].input
        name = inputs[operand] if operand is not None and operand < len(inputs) else ""
        if name in self._constants:
            return numpy_helper.to_array(self._constants[name].attribute[0].t)
        return tensor_values(self._initializers[name]) if name in self._initializers else None

    # -- nodes ----------------------------------------------------------------------------------------------------

    def set_input(self, node: int, operand: int, name: str) -> None:
        """Let a node read another tensor."""
        inputs = self._nodes[node].input
        inputs.extend([""] * (operand + 1 - len(inputs)))
        self._replaced.add(inputs[operand])
        inputs[operand] = name

    def remove(self, nodes: Collection[int], untold: Collection[str]) -> None:
        """Take nodes out, with the stored tensors that only they read; forget what the file says of some shapes."""
        graph = self._proto.graph
        given = {value.name for value in graph.input} if self._proto.ir_version >= OPTIONAL_DEFAULTS else set()
        self._removed.update(nodes)
        for node in nodes:
            self._replaced.update(name for name in self._nodes[node].input if name not in given)
        self._untold.update(untold)

    def set_size_attribute(self, node: int, attribute: str, entry: int | None, size: int) -> None:
        """Set an integer attribute, or one entry of an integer list."""
        proto = next((a for a in self._nodes[node].attribute if a.name == attribute), None)
        if proto is None:
            self._nodes[node].attribute.append(onnx.helper.make_attribute(attribute, size))
        elif entry is None:
            proto.i = size
        else:
            proto.ints[entry] = size

    def add_attribute(self, node: int, attribute: str, value: float) -> None:
        """Spell out an attribute that has been left to its default."""
        self._nodes[node].attribute.append(onnx.helper.make_attribute(attribute, value))

    def scale(self, name: str, ratios: Sequence[Fraction], dtype: str, before: int) -> str:
        """Multiply the entries of an integer vector by exact ratios, in nodes put before a node; return the result."""
        nodes, result = self._scaling(name, ratios, dtype)
        self._before[before].extend(nodes)
        return result

    def scale_output(self, node: int, name: str, ratios: Sequence[Fraction]) -> None:
        """Let every reader of a node's output see it multiplied by exact ratios."""
        inner = self.free_name(name)
        self._nodes[node].output[list(self._nodes[node].output).index(name)] = inner
        nodes, result = self._scaling(inner, ratios, "int64")
        nodes[-1].output[0] = name
        self._names.discard(result)
        self._after[node].extend(nodes)

    def add_after(self, node: int, op: str, value: Array, called: str | None = None) -> None:
        """Let every reader of a node's first output see it combined with a new stored tensor."""
        name = self._nodes[node].output[0]
        inner = self.free_name(name)
        self._nodes[node].output[0] = inner
        operand = self.add_initializer(name, value)
        self._after[node].append(onnx.helper.make_node(op, [inner, operand], [name], name=called or f"{inner}/{op}"))

    def take(self, name: str, axis: int, position: int, before: int) -> str:
        """Gather one position of an axis, which stays with size one, in a node put before a node; return the result."""
        operand = self.add_initializer(name, np.array([position], dtype=np.int64))
        made = self.free_name(name)
        node = onnx.helper.make_node("Gather", [name, operand], [made], name=f"{made}/Gather", axis=axis)
        self._before[before].append(node)
        return made

    def _scaling(self, name: str, ratios: Sequence[Fraction], dtype: str) -> tuple[list[onnx.NodeProto], str]:
        nodes: list[onnx.NodeProto] = []
        parts = ("Mul", [ratio.numerator for ratio in ratios]), ("Div", [ratio.denominator for ratio in ratios])
        for op, values in parts:
            operand = self.add_initializer(name, np.array(values, dtype=dtype))
            made = self.free_name(name)
            nodes.append(onnx.helper.make_node(op, [name, operand], [made], name=f"{made}/{op}"))
            name = made
        return nodes, name

    # -- the end --------------------------------------------------------------------------------------------------

    def set_shape(self, name: str, sizes: Sequence[int | None]) -> None:
        """Set the changed dimensions in what the file says of a tensor's shape."""
        value = self._infos.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=False):
            if size is not None and dim.HasField("dim_value"):
                dim.dim_value = size

    def finish(self) -> onnx.ModelProto:
        """Return the edited model."""
        if self._removed or self._before or self._after:
            places = {id(node): index for index, node in enumerate(self._nodes)}
            for body in (*self._bodies, self._proto.graph):  # those inside come first
                self._rebuild(body, places)
        _keep_only(self._proto.graph.value_info, self._untold)
        self._drop_replaced()
        return self._proto

    def _rebuild(self, graph: onnx.GraphProto, places: Mapping[int, int]) -> None:
        ordered = [
            node
            for original in graph.node
            if (index := places[id(original)]) not in self._removed
            for node in (*self._before[index], original, *self._after[index])
        ]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del graph.node[:]
        graph.node.extend(copies)

    def _drop_replaced(self) -> None:
        """Remove stored tensors that nothing reads any more because copies took their place."""
        graph = self._proto.graph
        read = {name for node in nested_nodes(graph) for name in node.input} | {value.name for value in graph.output}
        unread = self._replaced - read
        for index in reversed(range(len(graph.node))):
            if graph.node[index].op_type == "Constant" and graph.node[index].output[0] in unread:
                del graph.node[index]
        dropped = unread & self._initializers.keys()
        _keep_only(graph.initializer, dropped)
        _keep_only(graph.value_info, dropped)
        _keep_only(graph.input, dropped)  # before version 4 of the format every initializer is listed there, too


def _in_message(name: str, value: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(value, name)


def _keep_only(entries: Any, dropped: set[str]) -> None:
    """Delete the named entries of a repeated field in place (the field itself cannot be assigned)."""
    for index in reversed(range(len(entries))):
        if entries[index].name in dropped:
            del entries[index]
