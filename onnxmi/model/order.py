"""Nodes in an order in which each follows what it reads, as the specification asks of a file."""

from __future__ import annotations

from collections import defaultdict
from heapq import heapify, heappop, heappush

import onnx


def in_order(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Put the nodes of a model without bodies in order, in place; as they were where they can be."""
    nodes = list(proto.graph.node)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{makers[name] for name in node.input if name in makers} for node in nodes]
    readers: defaultdict[int, list[int]] = defaultdict(list)
    for index, made in enumerate(waits):
        for maker in made:
            readers[maker].append(index)
    ready = [index for index, made in enumerate(waits) if not made]
    heapify(ready)
    ordered = []
    while ready:
        index = heappop(ready)
        ordered.append(onnx.NodeProto.FromString(nodes[index].SerializeToString()))
        for reader in readers[index]:
            waits[reader].discard(index)
            if not waits[reader]:
                heappush(ready, reader)
    del proto.graph.node[:]
    proto.graph.node.extend(ordered)
    return proto
