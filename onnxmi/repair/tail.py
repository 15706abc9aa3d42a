"""What becomes of a linear operator's result: its scale, the residual stream it joins, and whether it is rectified.

The repair aims at what comes out of this tail, not at the bare result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxmi.linear import Linear
from onnxmi.model import Graph, Node

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tail:
    """A result y goes on as ``scale * y + offset``, plus the stream, and then perhaps through a Relu.

    Attributes
    ----------
    scale, offset : (M,) float64
        From the bias and a BatchNormalization in inference form; M counts all outputs of the original.
    stream : str or None
        The tensor it is added to.
    rectified : bool
        Whether the sum goes to a Relu and nowhere else.
    """

    scale: Floats
    offset: Floats
    stream: str | None
    rectified: bool


def find_tail(graph: Graph, linear: Linear) -> Tail:
    """Follow an operator's result for as long as it has one reader."""
    bias, node = linear.biases[0], linear.nodes[0]
    scale, offset = np.ones(linear.outputs.size), np.zeros(linear.outputs.size)
    result = node.outputs[0]
    if bias is not None:
        result = graph.nodes[bias.node].outputs[0]
        offset = graph.constant(bias.name).astype(np.float64) * linear.beta
    reader = _only_reader(graph, result)
    if reader is not None and (found := _inference_form(graph, reader)) is not None:
        scale, offset = found[0], found[0] * offset + found[1]
        result, reader = reader.outputs[0], _only_reader(graph, reader.outputs[0])
    stream: str | None = None
    if reader is not None and (reader.domain, reader.op) == ("", "Add"):
        other = next((name for name in reader.inputs if name != result), "")
        if other and other not in graph.folded:
            stream, reader = other, _only_reader(graph, reader.outputs[0])
    return Tail(scale, offset, stream, reader is not None and (reader.domain, reader.op) == ("", "Relu"))


def _inference_form(graph: Graph, node: Node) -> tuple[Floats, Floats] | None:
    """Scale and offset of a BatchNormalization with stored statistics."""
    if node.op != "BatchNormalization" or node.attributes.get("training_mode", 0):
        return None
    if not all(graph.is_constant(name) for name in node.inputs[1:5]):
        return None
    gamma, beta, mean, variance = (graph.constant(name).astype(np.float64) for name in node.inputs[1:5])
    scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    return scale, beta - scale * mean


def _only_reader(graph: Graph, tensor: str) -> Node | None:
    readers = graph.consumers.get(tensor, ())
    outputs = {info.name for info in graph.outputs}
    return readers[0][0] if len(readers) == 1 and tensor not in outputs else None
