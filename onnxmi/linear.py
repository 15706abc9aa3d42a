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

    rows: Callable[[Linear, Array, int, np.random.Generator], Array]
    matrix: Callable[[Linear, Array], Array]
    array: Callable[[Linear, Array, tuple[int, ...]], Array]
    activation: int
    weight: int


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
    stored = graph.is_constant(weight) and (node.op == "Conv" or len(graph.constant_shape(weight)) == 2)
    plain = not node.attributes.get("transA", 0)
    known = node.inputs[lens.activation] in channels.axes and node.outputs[0] in channels.axes
    return stored and plain and known and (node.index, lens.activation) in contracted


def _linear(graph: Graph, channels: ChannelGraph, nodes: tuple[Node, ...]) -> Linear:
    node, lens = nodes[0], LENSES[nodes[0].op]
    axis = 1 if node.op == "Conv" else -1
    biases = tuple(_bias(graph, n) for n in nodes)
    shape = graph.constant_shape(node.inputs[lens.weight])
    return Linear(
        nodes=nodes,
        activation=lens.activation,
        weight=lens.weight,
        groups=int(node.attributes.get("group", 1)) if node.op == "Conv" else 1,
        biases=biases,
        channels=channels.axes[node.inputs[lens.activation]][axis],
        outputs=channels.axes[node.outputs[0]][axis],
        kernel=shape[2:] if node.op == "Conv" else (),
        obstacle=_obstacle(graph, nodes),
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
    if node.attributes.get("alpha", 1.0) != 1.0 or node.attributes.get("beta", 1.0) != 1.0:
        return "it scales its product or its bias"
    for bias in (_bias(graph, n) for n in nodes):
        if bias is not None and not (graph.is_constant(bias.name) and len(graph.constant_shape(bias.name)) == 1):
            return "its bias is not a stored vector"
    return None


def weight_matrix(linear: Linear, array: Array) -> NDArray[np.float64]:
    """Weights as (groups, K, M) float64."""
    return LENSES[linear.nodes[0].op].matrix(linear, array).astype(np.float64)


def weight_array(linear: Linear, matrix: Array, shape: tuple[int, ...]) -> Array:
    """Turn (groups, K, M) weights into the operator's own layout and shape."""
    return LENSES[linear.nodes[0].op].array(linear, matrix, shape)


def feature_rows(linear: Linear, activation: Array, limit: int, rng: np.random.Generator) -> Array:
    """Input features of a batch.

    Parameters
    ----------
    linear : Linear
        The operator.
    activation : array
        Its input for a batch of samples.
    limit : int
        At most this many positions of each sample, drawn by `rng`.

    Returns
    -------
    (groups, rows, K) array
    """
    return LENSES[linear.nodes[0].op].rows(linear, activation, limit, rng)


# -- Gemm and MatMul --------------------------------------------------------------------------------------------------


def _matrix_rows(linear: Linear, activation: Array, limit: int, rng: np.random.Generator) -> Array:
    samples = activation.shape[0] if activation.ndim > 1 else 1
    rows = activation.reshape(samples, -1, activation.shape[-1])
    if rows.shape[1] > limit:
        picks = np.stack([_draw(rng, rows.shape[1], limit) for _ in range(samples)])
        rows = np.take_along_axis(rows, picks[:, :, None], axis=1)
    return rows.reshape(1, -1, activation.shape[-1])


def _draw(rng: np.random.Generator, count: int, limit: int) -> Ints:
    return np.sort(rng.permutation(count)[:limit])


def _gemm_matrix(linear: Linear, array: Array) -> Array:
    return (array.T if linear.nodes[0].attributes.get("transB", 0) else array)[None]


def _gemm_array(linear: Linear, matrix: Array, shape: tuple[int, ...]) -> Array:
    return np.reshape(matrix[0].T if linear.nodes[0].attributes.get("transB", 0) else matrix[0], shape)


# -- Conv -------------------------------------------------------------------------------------------------------------


def _patch_rows(linear: Linear, activation: Array, limit: int, rng: np.random.Generator) -> Array:
    node = linear.nodes[0]
    windows = _windows(activation, _geometry(node.attributes, linear.kernel, activation.shape[2:]))
    samples, spatial = windows.shape[0], windows.shape[2 : activation.ndim]
    count = prod(spatial)
    picks = np.stack([_draw(rng, count, min(limit, count)) for _ in range(samples)])
    places = np.unravel_index(picks, spatial)
    index: tuple[Any, ...] = (np.arange(samples)[:, None], slice(None), *places)
    patches = windows[index]  # (samples, picks, channels, *kernel)
    rows = patches.reshape(samples * picks.shape[1], linear.groups, -1)
    return rows.transpose(1, 0, 2)


@dataclass(frozen=True)
class _Geometry:
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def _geometry(attributes: Mapping[str, Any], kernel: tuple[int, ...], size: tuple[int, ...]) -> _Geometry:
    axes = len(kernel)
    strides = tuple(attributes.get("strides", (1,) * axes))
    dilations = tuple(attributes.get("dilations", (1,) * axes))
    pads = tuple(attributes.get("pads", (0,) * (2 * axes)))
    before, after = pads[:axes], pads[axes:]
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        total = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(size, strides, reach, strict=True)]
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        before = after = (0,) * axes
    return _Geometry(kernel, strides, dilations, before, after)


def _windows(activation: Array, geometry: _Geometry) -> Array:
    """Every position's patch as a view: (samples, channels, *positions, *kernel)."""
    axes = len(geometry.kernel)
    padding = [(0, 0), (0, 0), *zip(geometry.before, geometry.after, strict=True)]
    padded = np.pad(activation, padding)
    reach = tuple((k - 1) * d + 1 for k, d in zip(geometry.kernel, geometry.dilations, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + axes)))
    step = [slice(None), slice(None), *(slice(None, None, s) for s in geometry.strides)]
    step += [slice(None, None, d) for d in geometry.dilations]
    return windows[tuple(step)]


def _conv_matrix(linear: Linear, array: Array) -> Array:
    return array.reshape(linear.groups, array.shape[0] // linear.groups, -1).transpose(0, 2, 1)


def _conv_array(linear: Linear, matrix: Array, shape: tuple[int, ...]) -> Array:
    return matrix.transpose(0, 2, 1).reshape(shape)


LENSES: Mapping[str, Lens] = {
    "Gemm": Lens(_matrix_rows, _gemm_matrix, _gemm_array, activation=0, weight=1),
    "MatMul": Lens(_matrix_rows, lambda _linear, array: array[None], _gemm_array, activation=0, weight=1),
    "Conv": Lens(_patch_rows, _conv_matrix, _conv_array, activation=0, weight=1),
}
