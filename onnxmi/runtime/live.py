"""How much memory the tensors of a run take that are held at once."""

from __future__ import annotations

from math import prod

import onnx

from onnxmi.model.graph import Graph
from onnxmi.runtime.probe import run_types
from onnxmi.runtime.session import Feeds


def live_bytes(proto: onnx.ModelProto, feeds: Feeds) -> int:
    """Return the most bytes that inputs and unread results take when a model is run node by node.

    Inputs count to the end: whoever goes through a model step by step holds them.
    """
    sizes = {name: dtype.itemsize * prod(shape) for name, (dtype, shape) in run_types(proto, feeds).items()}
    graph = Graph(proto)
    last = {name: node.index for node in graph.nodes for name in (*node.inputs, *node.captures)}
    last |= {info.name: len(graph.nodes) for info in graph.outputs}
    held = peak = sum(value.nbytes for value in feeds.values())
    for node in graph.nodes:
        held += sum(sizes.get(name, 0) for name in node.outputs)
        peak = max(peak, held)
        ended = {*node.inputs, *node.captures, *node.outputs}
        held -= sum(sizes.get(name, 0) for name in ended if last.get(name, node.index) == node.index)
    return peak
