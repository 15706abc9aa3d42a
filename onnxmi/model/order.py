"""The order of operators: each after those whose results it reads, as ONNX asks and onnxruntime does not."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush

import onnx

from onnxmi.model.bodies import all_bodies, bodies_of, free_names


def in_order(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose operators come after those that they read, and else stay where they are.

    Converters to half precision append what they add. A model that is in order is returned itself, and so is one whose
    operators read each other in a circle.
    """
    if all(_is_sorted(graph.node) for graph in (proto.graph, *all_bodies(proto.graph))):
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    # Bodies first, and those inside of others before them: who sorts a graph copies the bodies of its nodes.
    for graph in [*all_bodies(made.graph), made.graph]:
        try:
            nodes = [graph.node[number] for number in _order(graph.node)]
        except CycleError:  # what the model is refused for says so
            return proto
        del graph.node[:]
        graph.node.extend(nodes)
    return made


def _order(nodes: Sequence[onnx.NodeProto]) -> list[int]:
    """Numbers of nodes in order, the first of those that are ready. Raises CycleError."""
    sorter = TopologicalSorter(dict(enumerate(_read_from(nodes))))
    sorter.prepare()
    ready: list[int] = []
    order: list[int] = []
    while sorter.is_active():
        for number in sorter.get_ready():
            heappush(ready, number)
        order.append(heappop(ready))
        sorter.done(order[-1])
    return order


def _is_sorted(nodes: Sequence[onnx.NodeProto]) -> bool:
    return all(before < number for number, all_before in enumerate(_read_from(nodes)) for before in all_before)


def _read_from(nodes: Sequence[onnx.NodeProto]) -> list[set[int]]:
    """Numbers of the nodes that each node reads a result of."""
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    read = [{*node.input, *(name for _, body in bodies_of(node) for name in free_names(body))} for node in nodes]
    return [{makers[name] for name in names if name in makers} for names in read]
