"""States of a Loop or a Scan that no iteration changes: the body reads them from outside instead.

Converters hand the weights of a recurrent layer through a loop in this way. As states they look like activations.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from onnxmi.model.bodies import all_bodies, bodies_of, nested_nodes, normalized

_FIRST = {"Loop": (2, 1), "Scan": (0, 0)}  # places of the first state among the body's inputs, and its outputs


def simplified(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model in the normal form, without states that no iteration changes; itself where it has none."""
    made = normalized(proto)
    if made is not proto:
        _read_from_outside(made)
    return made


def _read_from_outside(proto: onnx.ModelProto) -> None:
    read = {name for node in nested_nodes(proto.graph) for name in node.input}
    read.update(value.name for graph in (proto.graph, *all_bodies(proto.graph)) for value in graph.output)
    _walk(proto.graph, read)


def _walk(graph: onnx.GraphProto, read: set[str]) -> None:
    position = 0
    while position < len(graph.node):
        node, position = graph.node[position], position + 1
        copies = _without_invariants(node, read) if node.op_type in _FIRST else []
        for _, body in bodies_of(node):
            _walk(body, read)
        for copy in copies:
            graph.node.insert(position, copy)


def _without_invariants(node: onnx.NodeProto, read: set[str]) -> list[onnx.NodeProto]:
    """Take them out of one loop; return what gives the results that were the states."""
    ((_, body),) = bodies_of(node)
    first_read, first_made = _FIRST[node.op_type]
    copies = []
    for state in reversed(range(_states(node, body))):
        inner, outer = body.input[first_read + state].name, node.input[first_read + state]
        given = [value.name for value in body.output]
        own = given.pop(first_made + state)
        if own == inner and node.op_type == "Scan":  # onnxruntime loses such a state after the first iteration
            continue
        if not outer or own not in _passed_through(body, inner) or inner in given or len(given) <= first_made:
            continue
        _replace(body, {inner: outer})
        result = node.output[state] if state < len(node.output) else ""
        if result in read - {""}:
            copies.append(helper.make_node("Identity", [outer], [result], name=f"{result}/state"))
        del node.input[first_read + state], body.input[first_read + state], body.output[first_made + state]
        del node.output[state : state + 1]
        _remove_copies(body, outer)
    return copies


def _states(node: onnx.NodeProto, body: onnx.GraphProto) -> int:
    if node.op_type == "Loop":
        return len(body.input) - 2
    scanned = next(int(one.i) for one in node.attribute if one.name == "num_scan_inputs")
    return len(body.input) - scanned


def _passed_through(body: onnx.GraphProto, name: str) -> set[str]:
    """A tensor and its copies in a body."""
    names = {name}
    for node in body.node:
        if node.op_type == "Identity" and node.input[0] in names:
            names.update(node.output)
    return names


def _remove_copies(body: onnx.GraphProto, name: str) -> None:
    """Take copies of a tensor that nothing reads out of a body."""
    read = {given for node in nested_nodes(body) for given in node.input} | {value.name for value in body.output}
    for index in reversed(range(len(body.node))):
        node = body.node[index]
        if node.op_type == "Identity" and node.input[0] == name and not read.intersection(node.output):
            del body.node[index]


def _replace(body: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let everything in a body, and in those inside it, read other tensors."""
    for node in nested_nodes(body):
        node.input[:] = [names.get(name, name) for name in node.input]
