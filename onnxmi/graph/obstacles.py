"""Why the weights of a linear operator cannot be replaced by repaired ones."""

from __future__ import annotations

from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.parameters import Bias, Parameter, is_computed_from_scalars, is_dequantized, is_shared, readers
from onnxmi.model import Graph, Node
from onnxmi.operators.layout import MatrixLayout


def shape_of(graph: Graph, channels: ChannelGraph, name: str) -> tuple[int, ...]:
    """Return the shape of a stored tensor or of what is computed from such."""
    if graph.is_constant(name):
        return graph.constant_shape(name)
    return tuple(term.size for term in channels.axes.get(name, ()))


def obstacle_of_weights(graph: Graph, nodes: tuple[Node, ...], layout: MatrixLayout, weights: Parameter) -> str | None:
    """Why a repaired weight could not be written back."""
    others = set(readers(graph, weights.name)) ^ {(node.index, layout.weight) for node in nodes}
    if others or weights.name in graph.exposed:
        return "its weight is also used by other operators"
    if not weights.stored and is_shared(graph, weights.name):
        return "its weight is computed from one that is also used by other operators"
    if not weights.stored and is_computed_from_scalars(graph, weights.name):
        return "its weight is not stored"
    if not weights.stored and is_dequantized(graph, weights.name):
        return "its weight is quantized in a way that cannot be written"
    if weights.scheme is not None and not weights.scheme.scales:
        return layout.why_not_requantized(nodes[0]) or "the scale of its weight is not found"
    return None if weights.scheme is None else layout.why_not_requantized(nodes[0])


def obstacle_of_biases(
    graph: Graph,
    channels: ChannelGraph,
    nodes: tuple[Node, ...],
    layout: MatrixLayout,
    biases: tuple[Bias | None, ...],
    width: int,
) -> str | None:
    """Why a repaired bias could not be written back."""
    reason = layout.why_not_refitted(nodes[0])
    if reason is not None:
        return reason
    if layout.quantized is not None and layout.has_epilogue and None in biases:
        return "it is quantized and has no bias"
    scales = [(n.attributes.get("alpha", 1.0), n.attributes.get("beta", 1.0)) for n in nodes]
    if len(set(scales)) > 1 or not all(scales[0]):
        return "its product or its bias is scaled by zero, or differently at each use"
    shape = layout.bias_shape(nodes[0], width)
    for bias in biases:
        if bias is not None and (bias.stored is None or shape_of(graph, channels, bias.stored.name) != shape):
            return "its bias is not a stored vector"
    return None
