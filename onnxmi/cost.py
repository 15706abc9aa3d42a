"""What a model costs: parameters, bytes and multiply-accumulates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from onnxmi.dims.channel_graph import ChannelGraph
from onnxmi.dims.term import Term, atoms
from onnxmi.model import Graph, Node
from onnxmi.model.external import byte_size
from onnxmi.probe import run_shapes
from onnxmi.runtime import Feeds

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


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
    """Return the shapes of all tensors, stored ones included, when the model runs on given inputs."""
    stored = {name: graph.constant_shape(name) for name in graph.constants}
    return dict(run_shapes(proto, inputs)) | stored | {name: np.shape(value) for name, value in inputs.items()}


def parameters(graph: Graph) -> int:
    """Elements of all stored tensors, without shape arithmetic."""
    stored = ((graph.constant_dtype(name), graph.constant_shape(name)) for name in graph.constants)
    return sum(prod(shape) for dtype, shape in stored if dtype not in (np.dtype(np.int64), np.dtype(np.bool_)))


def node_macs(node: Node, shapes: Shapes) -> int:
    """Multiply-accumulates of one node; 0 for operators that are neither products nor convolutions."""
    counter, second = _MACS.get(node.op, (None, 1))
    if counter is None or len(node.inputs) <= second:
        return 0
    names = (node.inputs[0], node.inputs[second], node.outputs[0])
    if any(name not in shapes for name in names):
        return 0
    return counter(node, *(shapes[name] for name in names))


def _product(node: Node, left: Shape, _right: Shape, result: Shape) -> int:
    axis = -2 if node.attributes.get("transA", 0) else -1
    return prod(result) * (left[axis] if left else 1)


def _projection(_node: Node, source: Shape, weight: Shape, _result: Shape) -> int:
    """The matrix inside com.microsoft.Attention; what other attention reads is no matrix."""
    return prod(source) * weight[1] if len(weight) == 2 else 0


def _convolution(_node: Node, _input: Shape, weight: Shape, result: Shape) -> int:
    return prod(result) * prod(weight[1:])


def _transposed_convolution(_node: Node, source: Shape, weight: Shape, _result: Shape) -> int:
    return prod(source) * prod(weight[1:])


Counting = Callable[[Node, Shape, Shape, Shape], int]

# Operator -> how it is counted, and which operand its second factor is.
_MACS: Mapping[str, tuple[Counting | None, int]] = {
    **dict.fromkeys(("MatMul", "Gemm", "MatMulInteger", "FusedMatMul", "FusedGemm", "TransposeMatMul"), (_product, 1)),
    **dict.fromkeys(("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"), (_product, 1)),
    "Attention": (_projection, 1),
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv"), (_convolution, 1)),
    "ConvTranspose": (_transposed_convolution, 1),
    "QLinearMatMul": (_product, 3),
    "QLinearConv": (_convolution, 3),
}


def macs_axes(node: Node, channels: ChannelGraph) -> tuple[Term, ...]:
    """Return the terms of the axes that a node's multiply-accumulates are proportional to."""
    _, second = _MACS.get(node.op, (None, 1))
    operands = {0: node.inputs[0], second: node.inputs[second]}
    source, weight = (channels.read(node.index, operand, name) or () for operand, name in operands.items())
    result = channels.axes.get(node.outputs[0], ())
    if node.op in _TRANSPOSED:
        return (*source, *weight[1:])
    if node.op in _CONVOLVED:
        return (*result, *weight[1:])
    return (*result, *(source[-2 if node.attributes.get("transA", 0) else -1 :][:1]))


_TRANSPOSED = frozenset({"ConvTranspose", "Attention"})
_CONVOLVED = frozenset(op for op, (counting, _) in _MACS.items() if counting is _convolution)


@dataclass(frozen=True)
class Hanging:
    """What hangs on a layer: the parameters that carry it, and the MACs of the operators that make or use it."""

    parameters: int
    macs: int


def hanging(graph: Graph, channels: ChannelGraph, shapes: Shapes) -> dict[int, Hanging]:
    """Layer id -> what hangs on it; MACs on inputs of the given shapes."""
    carried: Counter[int] = Counter()
    for name in graph.constants:
        here = {atom.id for term in channels.axes.get(name, ()) for atom in atoms(term)}
        carried.update(dict.fromkeys(here, prod(graph.constant_shape(name))))
    for (node, operand), axes in channels.uses.items():
        here = {atom.id for term in axes for atom in atoms(term)}
        carried.update(dict.fromkeys(here, prod(graph.constant_shape(graph.nodes[node].inputs[operand]))))
    return {
        layer.id: Hanging(
            carried[layer.id], sum(node_macs(graph.nodes[n], shapes) for n in {*layer.makers, *layer.users})
        )
        for layer in channels.layers
    }
