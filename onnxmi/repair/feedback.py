"""Where a linear operator's result is added to a residual stream, so that it can correct what the stream is off by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxmi.linear import Linear
from onnxmi.model import Graph, Node

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Feedback:
    """The residual stream that a linear operator's result is added to.

    Attributes
    ----------
    stream : str
        The tensor it is added to.
    scale : (M,) float64 or None
        What a BatchNormalization in between multiplies the result by.
    """

    stream: str
    scale: Floats | None


def find_feedback(graph: Graph, linear: Linear) -> Feedback | None:
    """Find the stream that an operator's result is added to, through its bias and a BatchNormalization."""
    bias, node = linear.biases[0], linear.nodes[0]
    result = node.outputs[0] if bias is None else graph.nodes[bias.node].outputs[0]
    reader = _only_reader(graph, result)
    scale: Floats | None = None
    if reader is not None and reader.op == "BatchNormalization":
        scale = _scale(graph, reader)
        if scale is None:
            return None
        result = reader.outputs[0]
        reader = _only_reader(graph, result)
    if reader is None or (reader.domain, reader.op) != ("", "Add"):
        return None
    stream = next((name for name in reader.inputs if name != result), "")
    return Feedback(stream, scale) if stream and stream not in graph.folded else None


def _scale(graph: Graph, normalisation: Node) -> Floats | None:
    """What a BatchNormalization in inference form multiplies each channel by."""
    stored = all(graph.is_constant(name) for name in normalisation.inputs[1:5])
    if normalisation.attributes.get("training_mode", 0) or not stored:
        return None
    gamma, variance = (graph.constant(normalisation.inputs[i]).astype(np.float64) for i in (1, 4))
    return np.asarray(gamma / np.sqrt(variance + normalisation.attributes.get("epsilon", 1e-5)))


def _only_reader(graph: Graph, tensor: str) -> Node | None:
    readers = graph.consumers.get(tensor, ())
    return readers[0][0] if len(readers) == 1 else None
