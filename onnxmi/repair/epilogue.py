"""The epilogue of a linear operator: bias, batch normalization, residual addition and activation.

The repair aims at what comes out of the epilogue, not at the bare result. Only what acts on the result's entries one by
one belongs to it: a scale and an offset for each output, a residual input that has the result's shape or broadcasts to
it, an activation. The epilogue ends where the result itself is broadcast, or an axis other than the outputs' is scaled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.linear import Linear
from onnxmi.model import Graph, Model, Node
from onnxmi.operators.registry import operator_of
from onnxmi.repair.activation import Activation, find_activation
from onnxmi.typing import Floats


@dataclass(frozen=True, eq=False)
class Epilogue:
    """A result y goes on as ``scale * y + offset``, plus the stream, and then perhaps through an activation.

    Attributes
    ----------
    scale, offset : (M,) float64
        From the bias and a BatchNormalization in inference form; M counts all outputs of the original.
    stream : str or None
        The tensor it is added to.
    activation : Activation or None
        What the sum goes through, if it goes nowhere else.
    broadcasts : bool
        Whether the stream has another shape than the result, and is broadcast to it.
    """

    scale: Floats
    offset: Floats
    stream: str | None = None
    activation: Activation | None = None
    broadcasts: bool = False

    def bare(self) -> Epilogue:
        """Return the epilogue up to where the residual input is added."""
        return replace(self, stream=None, activation=None, broadcasts=False)


def find_epilogue(model: Model, channels: ChannelGraph, linear: Linear) -> Epilogue:
    """Follow an operator's result for as long as it has one reader and keeps its shape."""
    graph, bias, node = model.graph, linear.biases[0], linear.nodes[0]
    scale, offset = np.ones(linear.outputs.size), np.zeros(linear.outputs.size)
    if bias is not None and bias.stored is not None:
        offset = linear.layout.bias_vector(bias.stored.value(model)).astype(np.float64) * linear.beta
    if linear.layout.has_epilogue:
        own = Activation.rectifier() if node.attributes.get("activation") == "Relu" else None
        return Epilogue(scale, offset, _own_stream(graph, linear), own)
    result = result_of(graph, linear)
    reader = graph.only_reader(result)
    if reader is not None and _scales_outputs(channels, linear, result):
        affine = _inference_form(graph, reader)
        if affine is not None:
            # Two affine maps in a row are one: s (a y + b) + t = (s a) y + (s b + t).
            scale, offset = affine[0], affine[0] * offset + affine[1]
            result, reader = reader.outputs[0], graph.only_reader(reader.outputs[0])
    epilogue, end = Epilogue(scale, offset), result
    if reader is not None and _adds_stream(reader):
        stream = _stream(graph, channels, reader, result)
        if stream is None:
            return epilogue
        epilogue = replace(epilogue, stream=stream, broadcasts=_shape(channels, stream) != _shape(channels, result))
        if not _is_add(reader):  # a normalization that adds does more after the sum
            return epilogue
        end = reader.outputs[0]
    return replace(epilogue, activation=find_activation(model, end))


def result_of(graph: Graph, linear: Linear) -> str:
    """Return the tensor that holds an operator's result with its bias."""
    bias = linear.biases[0]
    end = linear.ends[0] if bias is None or not _is_add(graph.nodes[bias.node]) else graph.nodes[bias.node]
    return end.outputs[0]


def _own_stream(graph: Graph, linear: Linear) -> str | None:
    """A computed operand that the operator itself adds to its product."""
    name = "" if linear.layout.residual is None else linear.nodes[0].operand(linear.layout.residual)
    return name if name and name not in graph.folded else None


def _stream(graph: Graph, channels: ChannelGraph, adder: Node, result: str) -> str | None:
    """The computed tensor that is added to a result; None where the sum is not of the result's shape."""
    if result not in adder.inputs[:2]:
        return None
    # What is folded is a bias and no stream; it is part of the offset.
    other = adder.inputs[1 - adder.inputs.index(result)]
    if other in graph.folded or _shape(channels, other) is None:
        return None
    return other if _shape(channels, adder.outputs[0]) == _shape(channels, result) else None


def _shape(channels: ChannelGraph, name: str) -> tuple[int, ...] | None:
    """Sizes in the run that the channel graph was read off; what can change was of no common size there."""
    axes = channels.axes.get(name)
    return None if axes is None else tuple(term.size for term in axes)


def _is_add(node: Node) -> bool:
    return (node.domain, node.op) == ("", "Add")


def _adds_stream(node: Node) -> bool:
    """Add, and normalizations that add their first two operands."""
    return operator_of(node).adds_operands


def _scales_outputs(channels: ChannelGraph, linear: Linear, result: str) -> bool:
    """Whether the outputs lie on the second axis of a result, which a BatchNormalization scales."""
    return linear.layout.channel_axis == 1 or (
        linear.layout.channel_axis == -1 and len(channels.axes.get(result, ())) == 2
    )


def _inference_form(graph: Graph, node: Node) -> tuple[Floats, Floats] | None:
    """Scale and offset of a BatchNormalization with stored statistics."""
    if node.op != "BatchNormalization" or node.attributes.get("training_mode", 0):
        return None
    if not all(graph.is_constant(name) for name in node.inputs[1:5]):
        return None
    gamma, beta, mean, variance = (graph.constant(name).astype(np.float64) for name in node.inputs[1:5])
    # At inference a batch normalization is an affine map per channel.
    scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    return scale, beta - scale * mean
