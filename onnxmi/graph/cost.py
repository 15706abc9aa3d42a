"""What a model costs: parameters, bytes and multiply-accumulates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from onnxmi.axes.terms import atoms
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.macs import node_macs
from onnxmi.model import Graph
from onnxmi.model.external_data import byte_size
from onnxmi.model.narrow_states import narrowed_feeds
from onnxmi.operators.macs import Shapes
from onnxmi.runtime.probe import work_shapes
from onnxmi.runtime.session import Feeds
from onnxmi.typing import Shape


@dataclass(frozen=True)
class Cost:
    """Size and work of a model.

    Attributes
    ----------
    parameters : int
        Elements of all stored tensors that are not shape arithmetic (64-bit integers and booleans are).
    size : int
        Bytes of the file with its external data.
    macs : int
        Multiply-accumulates of all products and convolutions for one sample.
    """

    parameters: int
    size: int
    macs: int


def cost(proto: onnx.ModelProto, inputs: Feeds, samples: int = 1) -> Cost:
    """Count parameters, bytes and MACs; the MACs on the given inputs, which hold a number of samples."""
    graph = Graph(proto)
    shapes = all_shapes(graph, proto, inputs)
    macs = sum(node_macs(node, shapes) for node in graph.nodes)
    return Cost(parameters(graph), byte_size(proto), macs // samples)


def all_shapes(graph: Graph, proto: onnx.ModelProto, inputs: Feeds) -> dict[str, Shape]:
    """Return the shapes of all tensors, stored ones included, when the model runs on given inputs.

    Iterations of a body are counted on the first axis.
    """
    stored = {name: graph.constant_shape(name) for name in graph.constants}
    fed = narrowed_feeds(proto, inputs)
    return dict(work_shapes(proto, fed)) | stored | {name: np.shape(value) for name, value in fed.items()}


def parameters(graph: Graph) -> int:
    """Elements of all stored tensors, without shape arithmetic."""
    stored = ((graph.constant_dtype(name), graph.constant_shape(name)) for name in graph.constants)
    return sum(prod(shape) for dtype, shape in stored if dtype not in (np.dtype(np.int64), np.dtype(np.bool_)))


@dataclass(frozen=True)
class Dependents:
    """What hangs on a layer: the parameters that carry it, and the MACs of the operators that make or use it."""

    parameters: int
    macs: int


def dependents(graph: Graph, channels: ChannelGraph, shapes: Shapes) -> dict[int, Dependents]:
    """Layer id -> what hangs on it; MACs on inputs of the given shapes."""
    carried: Counter[int] = Counter()
    for name in graph.constants:
        here = {atom.id for term in channels.axes.get(name, ()) for atom in atoms(term)}
        carried.update(dict.fromkeys(here, prod(graph.constant_shape(name))))
    for (node, operand), axes in channels.uses.items():
        here = {atom.id for term in axes for atom in atoms(term)}
        carried.update(dict.fromkeys(here, prod(graph.constant_shape(graph.nodes[node].inputs[operand]))))
    return {
        layer.id: Dependents(
            carried[layer.id], sum(node_macs(graph.nodes[n], shapes) for n in {*layer.makers, *layer.users})
        )
        for layer in channels.layers
    }
