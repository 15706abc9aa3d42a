"""What compared tensors cannot see: layers that change no such tensor, though they change the outputs."""

from __future__ import annotations

from onnxmi.graph.channel_graph import ChannelGraph, Layer
from onnxmi.model import Graph
from onnxmi.outputs.view import DISMISSED, Meaning


def layers_not_compared(graph: Graph, channels: ChannelGraph, meaning: Meaning) -> tuple[Layer, ...]:
    """Return the layers whose units change something that is not compared, or nothing that is.

    Such come after the compared tensors, as the second stage of a detector whose proposals vary in number. No damage
    says how much of them may be cut. What outputs alone depend on that the user ignores does not count.
    """
    before = _nodes_before(graph, meaning.tensors)
    dismissed = {name for name, reason in meaning.ignored.items() if reason == DISMISSED}
    wanted = _nodes_before(graph, tuple(info.name for info in graph.outputs if info.name not in dismissed))
    unseen = wanted - before
    return tuple(
        layer for layer in channels.layers if unseen.intersection(layer.users) or not before.intersection(layer.users)
    )


def _nodes_before(graph: Graph, tensors: tuple[str, ...]) -> set[int]:
    """Nodes that tensors depend on."""
    found: set[int] = set()
    names = [name for name in tensors if name in graph.producers]
    while names:
        node = graph.producers[names.pop()]
        if node.index not in found:
            found.add(node.index)
            names.extend(name for name in node.reads if name in graph.producers)
    return found
