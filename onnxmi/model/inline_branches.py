"""Branches that are always taken, put in the place of their If."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper

from onnxmi.model.bodies import bodies_of, nested_nodes
from onnxmi.model.conditions import Conditions


def inline_branches(graph: onnx.GraphProto, conditions: Conditions) -> dict[str, bool]:
    """Put branches that are always taken in the place of their If.

    Returns
    -------
    dict of str to bool
        First result of each If that was replaced -> the value of its condition. The graph is changed.
    """
    nodes: list[onnx.NodeProto] = []
    types: list[onnx.ValueInfoProto] = []
    replaced: dict[str, bool] = {}
    for node in graph.node:
        holds = conditions.holds(node) if node.op_type == "If" else None
        if holds is None:
            for _, body in bodies_of(node):
                replaced |= inline_branches(body, conditions)
            nodes.append(node)
            continue
        replaced[node.output[0]] = holds
        body = dict(bodies_of(node))["then_branch" if holds else "else_branch"]
        nodes.extend(body.node)
        types.extend((*body.value_info, *body.output))
        pairs = zip(node.output, body.output, strict=False)
        nodes.extend(
            helper.make_node("Identity", [given.name], [name], name=f"{name}/given") for name, given in pairs if name
        )
    if replaced:
        graph.value_info.extend(types)
        _set_nodes(graph, nodes)
    return replaced


def _set_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Replace the nodes of a graph; they may be its own."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def remove_unused(graph: onnx.GraphProto) -> None:
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
