"""Branches of an If inside a Loop or Scan, computed in every iteration, so that what is inside them can be shown.

Iterations are stacked, and one that took the other branch would have nothing to put there. What a branch computes
depends on nothing that it changes, so it can be computed always; conditions say in which iterations it counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx
from onnx import helper

from onnxmi.model.bodies import LOOPS, bodies_of, nested_nodes


@dataclass(frozen=True)
class Condition:
    """When a branch is taken.

    Attributes
    ----------
    tensor : str
        The condition of its If.
    value : bool
        Its value where the branch is taken.
    """

    tensor: str
    value: bool


def in_branches_of_loops(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the tensors that are computed in branches inside loops."""
    return frozenset(_conditional(graph, in_loop=False, in_branch=False))


def hoist_branches(graph: onnx.GraphProto, wanted: Collection[str]) -> dict[str, tuple[Condition, ...]]:
    """Let loops compute the branches inside them that hold any of the wanted tensors in every iteration.

    Returns
    -------
    dict
        Tensor of such a branch -> the conditions under which it counts, outermost first. The graph is changed.
    """
    conditions: dict[str, tuple[Condition, ...]] = {}
    for node in graph.node:
        for _, body in bodies_of(node):
            if node.op_type in LOOPS:
                _flatten(body, frozenset(wanted), (), conditions)
            else:
                conditions |= hoist_branches(body, wanted)
    return conditions


def _conditional(graph: onnx.GraphProto, *, in_loop: bool, in_branch: bool) -> Iterator[str]:
    for node in graph.node:
        if in_branch:
            yield from filter(None, node.output)
        for _, body in bodies_of(node):
            loop, branch = in_loop or node.op_type in LOOPS, in_branch or (in_loop and node.op_type == "If")
            if branch:
                yield from (value.name for value in body.input)
            yield from _conditional(body, in_loop=loop, in_branch=branch)


def _flatten(
    body: onnx.GraphProto,
    wanted: frozenset[str],
    path: tuple[Condition, ...],
    conditions: dict[str, tuple[Condition, ...]],
) -> None:
    """Put the nodes of branches beside those of the body that they are in."""
    nodes: list[onnx.NodeProto] = []
    for node in body.node:
        for attribute, inner in bodies_of(node):
            if node.op_type != "If":
                _note(inner, path, conditions)
                _flatten(inner, wanted, path, conditions)
            elif wanted.intersection(_made(inner)):
                own = (*path, Condition(node.input[0], attribute == "then_branch"))
                _note(inner, own, conditions, nested=False)
                _flatten(inner, wanted, own, conditions)
                nodes.extend(_moved_out(inner))
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del body.node[:]
    body.node.extend(copies)


def _note(
    body: onnx.GraphProto,
    path: tuple[Condition, ...],
    conditions: dict[str, tuple[Condition, ...]],
    *,
    nested: bool = True,
) -> None:
    if path:
        names = [value.name for value in body.input] if nested else []
        names += [name for node in body.node for name in node.output if name]
        conditions.update(dict.fromkeys(names, path))


def _made(body: onnx.GraphProto) -> Iterator[str]:
    for node in nested_nodes(body):
        yield from filter(None, node.output)
        for _, inner in bodies_of(node):
            yield from (value.name for value in inner.input)


def _moved_out(branch: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Take the nodes of a branch out of it; it gives what they make then."""
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in branch.node]
    del branch.node[:]
    for value in branch.output:
        copied = f"{value.name}@taken"
        branch.node.append(helper.make_node("Identity", [value.name], [copied]))
        value.name = copied
    return nodes
