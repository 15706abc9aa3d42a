"""The bodies of If, Loop and Scan: a normal form in which a model's nodes can be looked at as one list.

In the normal form every name is defined once in the whole model, and all stored tensors are in the main graph, where
bodies read them from. What a body's inputs and outputs stand for outside is told by links.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

from onnxmi.model.inferred import inferred

STANDARD_DOMAINS = ("", "ai.onnx")
LOOPS = ("Loop", "Scan")
CONTROL_FLOW = ("If", *LOOPS)
_Pair = tuple[str, str, int | None]
_OLD_SCAN = 9  # before this version of the operators a Scan has the batch on an axis of its own


@dataclass(frozen=True)
class Link:
    """A tensor outside a body and one inside it, or two inside it, with the same axes.

    Attributes
    ----------
    outer, inner : str
        Their names.
    axis : int or None
        The axis of the outer one that iterations run over, which the inner one does not have.
    """

    outer: str
    inner: str
    axis: int | None = None


@dataclass(frozen=True)
class Body:
    """The body of a node.

    Attributes
    ----------
    attribute : str
        The attribute that holds it.
    inputs, outputs : tuple of str
        Names of its inputs and outputs.
    nodes : tuple of int
        Indices of its nodes, without those of bodies inside it.
    links : tuple of Link
        What its inputs and outputs stand for.
    """

    attribute: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[int, ...]
    links: tuple[Link, ...]

    @property
    def flows(self) -> tuple[tuple[str, str], ...]:
        """From where to where values go: into the body, out of it, and from one iteration to the next."""
        return tuple(
            (one.inner, one.outer) if one.inner in self.outputs else (one.outer, one.inner) for one in self.links
        )


def bodies_of(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """Yield the graphs that a node holds, with the names of the attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from ((attribute.name, graph) for graph in attribute.graphs)


def nested_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes of a graph, those of a body before the node that it is of."""
    for node in graph.node:
        for _, body in bodies_of(node):
            yield from nested_nodes(body)
        yield node


def all_bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield all bodies in a graph, those inside of one before it."""
    return (body for node in nested_nodes(graph) for _, body in bodies_of(node))


def is_normal(proto: onnx.ModelProto) -> bool:
    """Whether a model is in the normal form; one without bodies is."""
    bodies = list(all_bodies(proto.graph))
    if not bodies:
        return True
    held = any(body.initializer or body.sparse_initializer for body in bodies)
    inside = (node for body in bodies for node in body.node)
    names = list(_defined(proto.graph))
    known = all(node.op_type in CONTROL_FLOW for node in nested_nodes(proto.graph) if any(bodies_of(node)))
    no_constants = not any(node.op_type == "Constant" for node in inside)
    return not held and known and no_constants and len(names) == len(set(names)) and not _has_old_scan(proto)


def normalized(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model in the normal form; itself where that is not possible, or where there are no bodies."""
    if next(all_bodies(proto.graph), None) is None:
        return proto
    made = _with_types(proto)
    taken = set(_defined(made.graph))
    seen = {value.name for value in (*made.graph.input, *made.graph.initializer)}
    seen |= {name for node in made.graph.node for name in node.output}
    for node in made.graph.node:
        for _, body in bodies_of(node):
            _rename(body, {}, taken, seen)
            _move_stored(body, made.graph)
    return made if is_normal(made) else proto


def _with_types(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that says of all tensors in bodies of what type they are, as far as onnx can infer that."""
    made = inferred(proto)
    del made.graph.value_info[:]
    made.graph.value_info.extend(proto.graph.value_info)
    for body in all_bodies(made.graph):
        for value in (*body.value_info, *body.output):
            for dim in value.type.tensor_type.shape.dim:
                dim.Clear()  # a cut changes it, and there may be other sizes than were inferred
    return made


def free_names(body: onnx.GraphProto) -> set[str]:
    """Return the names a subgraph reads but does not define."""
    defined = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    read = {value.name for value in body.output}
    for node in body.node:
        read.update(name for name in node.input if name)
        defined.update(node.output)
        for _, inner in bodies_of(node):
            read |= free_names(inner)
    return read - defined


def links_of(node: onnx.NodeProto, body: onnx.GraphProto) -> tuple[Link, ...]:
    """Return what the inputs and outputs of a body in the normal form stand for."""
    read, made = [value.name for value in body.input], [value.name for value in body.output]
    if node.op_type == "If":
        pairs: list[_Pair] = [(outer, inner, None) for outer, inner in zip(node.output, made, strict=False)]
    elif node.op_type == "Loop":
        pairs = _loop_links(node, read, made)
    else:
        pairs = _scan_links(node, read, made)
    return tuple(Link(*pair) for pair in pairs if pair[0])


def _loop_links(node: onnx.NodeProto, read: Sequence[str], made: Sequence[str]) -> list[_Pair]:
    """Inputs are the iteration, the condition and the states; outputs the condition, the states and what is stacked."""
    states = len(read) - 2
    pairs: list[_Pair] = [(outer, inner, None) for outer, inner in zip(node.input[2:], read[2:], strict=False)]
    pairs += [(before, after, None) for before, after in zip(read[2:], made[1 : 1 + states], strict=False)]
    for place, (outer, inner) in enumerate(zip(node.output, made[1:], strict=False)):
        pairs.append((outer, inner, None if place < states else 0))
    return pairs


def _scan_links(node: onnx.NodeProto, read: Sequence[str], made: Sequence[str]) -> list[_Pair]:
    """Inputs and outputs are the states, and then what is read and stacked along an axis."""
    attributes = {one.name: one for one in node.attribute}
    states = len(read) - int(attributes["num_scan_inputs"].i)
    pairs: list[_Pair] = [(before, after, None) for before, after in zip(read[:states], made[:states], strict=True)]
    for outside, inside, name in ((node.input, read, "scan_input_axes"), (node.output, made, "scan_output_axes")):
        listed = list(attributes[name].ints) if name in attributes else []
        for place, (outer, inner) in enumerate(zip(outside, inside, strict=False)):
            scanned = place - states
            axis = listed[scanned] if 0 <= scanned < len(listed) else 0
            pairs.append((outer, inner, None if scanned < 0 else axis))
    return pairs


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield all names that a graph and its bodies define; an initializer that is also an input counts once."""
    stored = {tensor.name for tensor in graph.initializer}
    yield from stored
    yield from (value.name for value in graph.input if value.name not in stored)
    for node in graph.node:
        yield from filter(None, node.output)
        for _, body in bodies_of(node):
            yield from _defined(body)


def _has_old_scan(proto: onnx.ModelProto) -> bool:
    opset = max((entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), default=0)
    return opset < _OLD_SCAN and any(node.op_type == "Scan" for node in nested_nodes(proto.graph))


def _rename(body: onnx.GraphProto, outer: Mapping[str, str], taken: set[str], seen: set[str]) -> None:
    """Give what a body defines names of its own; `outer` has the new names of what is defined around it."""
    names = dict(outer)

    def free(name: str) -> str:
        candidate, number = name, 1
        while candidate in seen or (number > 1 and candidate in taken):
            candidate, number = f"{name}#{number}", number + 1
        seen.add(candidate)
        names[name] = candidate
        return candidate

    for value in (*body.input, *body.initializer):
        value.name = free(value.name)
    for node in body.node:
        for place, name in enumerate(node.output):
            node.output[place] = free(name) if name else ""
    for value in (*body.output, *body.value_info):
        value.name = names.get(value.name, value.name)
    for node in body.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for _, inner in bodies_of(node):
            _rename(inner, names, taken, seen)


def _move_stored(body: onnx.GraphProto, main: onnx.GraphProto) -> None:
    """Store in the main graph what a body, or one inside it, stores."""
    for node in body.node:
        for _, inner in bodies_of(node):
            _move_stored(inner, main)
    stored = [*body.initializer, *filter(None, map(constant_tensor, body.node))]
    names = {tensor.name for tensor in stored}
    main.initializer.extend(stored)
    inside = [node for node in body.node if names.isdisjoint(node.output)]
    for value in body.output:  # what a body gives, its nodes have to make
        if value.name in names:
            made = onnx.helper.make_node("Identity", [value.name], [f"{value.name}#given"])
            value.name = made.output[0]
            inside.append(made)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in inside]
    del body.initializer[:], body.node[:]
    body.node.extend(copies)


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return what a Constant node holds as a tensor; None for other nodes, and for what is no tensor of numbers."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        return None
    value = np.asarray(onnx.helper.get_attribute_value(attribute), dtype=kinds[attribute.name])
    return numpy_helper.from_array(value, node.output[0])
