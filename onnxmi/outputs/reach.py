"""What compared tensors cannot see: layers that change no such tensor, though they change the outputs."""

from __future__ import annotations

from onnxmi.dims.channel_graph import ChannelGraph, Layer
from onnxmi.model import Graph
from onnxmi.outputs.view import Meaning


def unseen_layers(graph: Graph, channels: ChannelGraph, meaning: Meaning) -> tuple[Layer, ...]:
    """Return the layers whose units change nothing that is compared.

    They come after the compared tensors, such as the second stage of a detector whose proposals vary in number. No
    damage says how much of them may be cut.
    """
    before = _nodes_before(graph, meaning.tensors)
    return tuple(layer for layer in channels.layers if not before.issuperset(layer.users))


def _nodes_before(graph: Graph, tensors: tuple[str, ...]) -> set[int]:
    """Nodes that tensors depend on."""
    found: set[int] = set()
    names = [name for name in tensors if name in graph.producers]
    while names:
        node = graph.producers[names.pop()]
        if node.index not in found:
            found.add(node.index)
            names.extend(name for name in (*node.inputs, *node.captures) if name in graph.producers)
    return found
