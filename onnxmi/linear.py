"""Linear operators seen through one lens: rows of input features times a weight matrix, whatever the operator.

For scoring and repair, a Gemm, a MatMul and a (grouped) convolution are all ``Y[g] = X[g] @ W[g] + b[g]`` with rows X
of shape (groups, rows, K) and W of shape (groups, K, M): a convolution's features are the patch under its kernel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.dims.channel_graph import ChannelGraph
from onnxmi.dims.term import Keeping, Term, coordinates, kept_mask
from onnxmi.model import Graph, Node
from onnxmi.patches import Window, count, gather, window

Array = NDArray[Any]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Bias:
    """Where a linear operator's bias is stored: an operand of the node itself, or of the Add that follows it."""

    node: int
    operand: int
    name: str


@dataclass(frozen=True)
class Linear:
    """One stored weight and the nodes that multiply an activation by it.

    Attributes
    ----------
    nodes : tuple of Node
        Usually one; several share a weight in a two-tower model.
    activation, weight : int
        Operand positions.
    groups : int
        Number of independent groups of a convolution, else 1.
    biases : tuple of Bias or None
        One for each node; None where there is none yet.
    channels, outputs : Term
        The terms of the activation's contracted axis (with the groups) and of the result's.
    kernel : tuple of int
        Spatial shape of a convolution's kernel, else empty.
    obstacle : str or None
        Why the weights cannot be replaced by repaired ones, if so.
    alpha, beta : float
        What a Gemm multiplies its product and its bias by.
    """

    nodes: tuple[Node, ...]
    activation: int
    weight: int
    groups: int
    biases: tuple[Bias | None, ...]
    channels: Term
    outputs: Term
    kernel: tuple[int, ...]
    obstacle: str | None
    alpha: float = 1.0
    beta: float = 1.0

    @property
    def key(self) -> str:
        """A name that is unique in the model: that of the first node's result."""
        return self.nodes[0].outputs[0]

    @property
    def label(self) -> str:
        """A name for people."""
        return self.nodes[0].label

    @property
    def taps(self) -> tuple[str, ...]:
        """The activations."""
        return tuple(node.inputs[self.activation] for node in self.nodes)

    @property
    def weight_name(self) -> str:
        """The stored weight."""
        return self.nodes[0].inputs[self.weight]

    @property
    def features(self) -> int:
        """K: input features of a group."""
        return self.channels.size // self.groups * prod(self.kernel)

    def feature_units(self, atom: int) -> Ints:
        """Index of an atom for every input feature, (groups, K); -1 where a feature does not depend on it."""
        return np.repeat(coordinates(self.channels, atom).reshape(self.groups, -1), prod(self.kernel), axis=1)

    def kept_features(self, keeping: Keeping) -> Bools:
        """Which input features stay, (groups, K)."""
        return np.repeat(kept_mask(self.channels, keeping).reshape(self.groups, -1), prod(self.kernel), axis=1)

    def kept_outputs(self, keeping: Keeping) -> Bools:
        """Which outputs stay, (groups, M)."""
        return kept_mask(self.outputs, keeping).reshape(self.groups, -1)


@dataclass(frozen=True)
class Lens:
    """How one operator's arrays look as rows and matrices."""

    count: Callable[[Linear, Array], int]
    rows: Callable[[Linear, Array, Ints], Array]
    results: Callable[[Array, Ints, int], Array]
    matrix: Callable[[Linear, Array], Array]
    array: Callable[[Linear, Array, tuple[int, ...]], Array]
    activation: int
    weight: int


CONVOLUTIONS = ("Conv", "ConvTranspose")


def find_linears(graph: Graph, channels: ChannelGraph) -> tuple[Linear, ...]:
    """Return the linear operators that contract an activation with a stored weight, in graph order."""
    contracted = {(c.node, c.operand) for c in channels.contractions}
    sharing: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.domain == "" and node.op in LENSES and _fits(graph, channels, node, contracted):
            sharing[node.op, node.inputs[LENSES[node.op].weight]].append(node)
    return tuple(_linear(graph, channels, tuple(nodes)) for nodes in sharing.values())


def _fits(graph: Graph, channels: ChannelGraph, node: Node, contracted: set[tuple[int, int]]) -> bool:
    lens = LENSES[node.op]
    weight = node.inputs[lens.weight]
    stored = graph.is_constant(weight) and (node.op in CONVOLUTIONS or len(graph.constant_shape(weight)) == 2)
    plain = not node.attributes.get("transA", 0) and not node.attributes.get("output_shape")
    if node.op == "ConvTranspose" and node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return False
    activation = node.inputs[lens.activation]
    known = activation in channels.axes and activation not in graph.folded and node.outputs[0] in channels.axes
    empty = stored and 0 in graph.constant_shape(weight)
    return stored and plain and known and not empty and (node.index, lens.activation) in contracted


def _linear(graph: Graph, channels: ChannelGraph, nodes: tuple[Node, ...]) -> Linear:
    node, lens = nodes[0], LENSES[nodes[0].op]
    convolution = node.op in CONVOLUTIONS
    axis = 1 if convolution else -1
    biases = tuple(_bias(graph, n) for n in nodes)
    shape = graph.constant_shape(node.inputs[lens.weight])
    return Linear(
        nodes=nodes,
        activation=lens.activation,
        weight=lens.weight,
        groups=int(node.attributes.get("group", 1)) if convolution else 1,
        biases=biases,
        channels=channels.axes[node.inputs[lens.activation]][axis],
        outputs=channels.axes[node.outputs[0]][axis],
        kernel=shape[2:] if convolution else (),
        obstacle=_obstacle(graph, nodes),
        alpha=float(node.attributes.get("alpha", 1.0)),
        beta=float(node.attributes.get("beta", 1.0)),
    )


def _bias(graph: Graph, node: Node) -> Bias | None:
    if len(node.inputs) > 2 and node.inputs[2]:
        return Bias(node.index, 2, node.inputs[2])
    readers = graph.consumers.get(node.outputs[0], ())
    if node.op == "MatMul" and len(readers) == 1 and readers[0][0].op == "Add" and readers[0][0].domain == "":
        add, operand = readers[0]
        other = add.inputs[1 - operand]
        width = graph.constant_shape(node.inputs[1])[-1]
        if graph.is_constant(other) and graph.constant_shape(other) == (width,):
            return Bias(add.index, 1 - operand, other)
    return None


def _obstacle(graph: Graph, nodes: tuple[Node, ...]) -> str | None:
    """Why a repaired weight could not be written back."""
    node, lens = nodes[0], LENSES[nodes[0].op]
    if len(graph.consumers[node.inputs[lens.weight]]) != len(nodes):
        return "its weight is also used by other operators"
    scales = [(n.attributes.get("alpha", 1.0), n.attributes.get("beta", 1.0)) for n in nodes]
    if len(set(scales)) > 1 or not all(scales[0]):
        return "it scales its product or its bias by nothing, or differently at each use"
    for bias in (_bias(graph, n) for n in nodes):
        if bias is not None and not (graph.is_constant(bias.name) and len(graph.constant_shape(bias.name)) == 1):
            return "its bias is not a stored vector"
    return None


def weight_matrix(linear: Linear, array: Array) -> NDArray[np.float64]:
    """Weights as (groups, K, M) float64, with what the operator multiplies its product by."""
    return LENSES[linear.nodes[0].op].matrix(linear, array).astype(np.float64) * linear.alpha


def bias_value(linear: Linear, old: Array | None, shift: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    """Return the stored bias that adds `shift` (M,) to the results; `old` is the one before, if there is one."""
    if old is None:
        return np.asarray(shift / linear.beta).astype(dtype)
    return np.asarray(old.astype(np.float64) + shift / linear.beta).astype(old.dtype)


def weight_array(linear: Linear, matrix: Array, shape: tuple[int, ...]) -> Array:
    """Turn (groups, K, M) weights into the operator's own layout and shape."""
    return LENSES[linear.nodes[0].op].array(linear, matrix / linear.alpha, shape)


def row_count(linear: Linear, activation: Array) -> int:
    """How many rows an activation holds: samples times positions, sample by sample."""
    return LENSES[linear.nodes[0].op].count(linear, activation)


def feature_rows(linear: Linear, activation: Array, places: Ints) -> Array:
    """Return the input features at some rows, (groups, rows, K); `places` index the rows that `row_count` counts."""
    return LENSES[linear.nodes[0].op].rows(linear, activation, places)


def output_rows(linear: Linear, result: Array, places: Ints, groups: int) -> Array:
    """Return a tensor of the shape of the operator's result at the same rows, (groups, rows, M)."""
    return LENSES[linear.nodes[0].op].results(result, places, groups)


# -- Gemm and MatMul --------------------------------------------------------------------------------------------------


def _matrix_count(linear: Linear, activation: Array) -> int:
    return int(activation.size // activation.shape[-1])


def _matrix_rows(linear: Linear, activation: Array, places: Ints) -> Array:
    return activation.reshape(-1, activation.shape[-1])[places][None]


def _matrix_results(result: Array, places: Ints, groups: int) -> Array:
    return result.reshape(-1, result.shape[-1])[places][None]


def _gemm_matrix(linear: Linear, array: Array) -> Array:
    return (array.T if linear.nodes[0].attributes.get("transB", 0) else array)[None]


def _gemm_array(linear: Linear, matrix: Array, shape: tuple[int, ...]) -> Array:
    return np.reshape(matrix[0].T if linear.nodes[0].attributes.get("transB", 0) else matrix[0], shape)


# -- Conv -------------------------------------------------------------------------------------------------------------


def _window(linear: Linear, activation: Array) -> Window:
    node = linear.nodes[0]
    return window(node.attributes, linear.kernel, activation.shape[2:], transposed=node.op == "ConvTranspose")


def _patch_count(linear: Linear, activation: Array) -> int:
    return count(activation, _window(linear, activation))


def _patch_rows(linear: Linear, activation: Array, places: Ints) -> Array:
    patches = gather(activation, _window(linear, activation), places)
    rows: Array = patches.reshape(len(places), linear.groups, prod(patches.shape[1:]) // linear.groups)
    return rows.transpose(1, 0, 2)


def _patch_results(result: Array, places: Ints, groups: int) -> Array:
    samples, *where = np.unravel_index(places, (result.shape[0], *result.shape[2:]))
    index: tuple[Any, ...] = (samples, slice(None), *where)
    rows: Array = result[index].reshape(len(places), groups, result.shape[1] // groups)
    return rows.transpose(1, 0, 2)


def _conv_matrix(linear: Linear, array: Array) -> Array:
    return array.reshape(linear.groups, array.shape[0] // linear.groups, -1).transpose(0, 2, 1)


def _conv_array(linear: Linear, matrix: Array, shape: tuple[int, ...]) -> Array:
    return matrix.transpose(0, 2, 1).reshape(shape)


def _transposed_matrix(linear: Linear, array: Array) -> Array:
    """(channels, outputs of a group, *kernel) as (groups, channels * kernel, outputs)."""
    grouped = array.reshape(linear.groups, -1, array.shape[1], prod(linear.kernel))
    return grouped.swapaxes(2, 3).reshape(linear.groups, -1, array.shape[1])


def _transposed_array(linear: Linear, matrix: Array, shape: tuple[int, ...]) -> Array:
    grouped = matrix.reshape(matrix.shape[0], -1, prod(linear.kernel), matrix.shape[-1])
    return grouped.swapaxes(2, 3).reshape(shape)


def _left_matrix(linear: Linear, array: Array) -> Array:
    return array[None]


_MATRICES = (_matrix_count, _matrix_rows, _matrix_results)
_PATCHES = (_patch_count, _patch_rows, _patch_results)

LENSES: Mapping[str, Lens] = {
    "Gemm": Lens(*_MATRICES, _gemm_matrix, _gemm_array, activation=0, weight=1),
    "MatMul": Lens(*_MATRICES, _left_matrix, _gemm_array, activation=0, weight=1),
    "Conv": Lens(*_PATCHES, _conv_matrix, _conv_array, activation=0, weight=1),
    "ConvTranspose": Lens(*_PATCHES, _transposed_matrix, _transposed_array, activation=0, weight=1),
}
