"""Linear operators in one form: rows of input features times a weight matrix, whatever the operator.

For scoring and repair, a Gemm, a MatMul and a (grouped) convolution are all ``Y[g] = X[g] @ W[g] + b[g]`` with rows X
of shape (groups, rows, K) and W of shape (groups, K, M): a convolution's features are the patch under its kernel.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from onnxmi.axes.keeping import Keeping
from onnxmi.axes.terms import AtomId, Term, coordinates
from onnxmi.errors import stage
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.obstacles import obstacle_of_biases, obstacle_of_weights, shape_of
from onnxmi.graph.parameters import Bias, Parameter, Use, computing, find_parameter, known_value, readers
from onnxmi.graph.quantization import AffineQuantization, KeptAlongAxis, read_quantized
from onnxmi.model import Graph, Model, Node
from onnxmi.operators.layout import MatrixLayout, MatrixTerms, OperatorShape
from onnxmi.operators.registry import operator_of
from onnxmi.typing import Array, Bools, Floats, Ints


@dataclass(frozen=True)
class Linear:
    """One stored weight and the nodes that multiply an activation by it, all in the same way.

    A weight that is also read in another way, as a tied autoencoder reads W and W^T, is another one's, too.

    Attributes
    ----------
    nodes : tuple of Node
        Usually one; several share a weight in a two-tower model.
    ends : tuple of Node
        Those that make the products: the same nodes, or where integers are scaled later, what does that.
    layout : MatrixLayout
        How its arrays look as rows and matrices.
    taps : tuple of str
        The activations, before they are quantized where that depends on them.
    activation_qparams : pair of float or None
        Scale and zero point of a quantized activation.
    weights : Parameter
        What the weight is stored as.
    slots : tuple of (int, int)
        The nodes and operands that read it, as `Parameter.use` says.
    groups : int
        Number of independent groups of a convolution, else 1.
    biases : tuple of Bias or None
        One for each node; None where there is none yet.
    channels, outputs : Term
        The terms of the activation's contracted axis (with the groups) and of the product's.
    kernel : tuple of int
        Spatial shape of a convolution's kernel, else empty.
    obstacle : str or None
        Why the weights cannot be replaced by repaired ones, if so.
    alpha, beta : float
        What a Gemm multiplies its product and its bias by.
    """

    nodes: tuple[Node, ...]
    ends: tuple[Node, ...]
    layout: MatrixLayout
    taps: tuple[str, ...]
    activation_qparams: tuple[float, float] | None
    weights: Parameter
    slots: tuple[Use, ...]
    groups: int
    biases: tuple[Bias | None, ...]
    channels: Term
    outputs: Term
    kernel: tuple[int, ...]
    obstacle: str | None
    alpha: float = 1.0
    beta: float = 1.0

    @property
    def holds_bias(self) -> bool:
        """Whether a bias vector can be written back."""
        return self.layout.holds_bias(self.nodes[0])

    @property
    def key(self) -> str:
        """A name that is unique in the model: that of the first node's result, and of the part of it."""
        made = self.nodes[0].result
        return f"{made} {self.layout.name}" if self.layout.name else made

    @property
    def label(self) -> str:
        """A name for people."""
        return self.nodes[0].label

    @property
    def weight_name(self) -> str:
        """The stored weight, or what is computed in its place."""
        return self.weights.name

    @property
    def shape(self) -> OperatorShape:
        """What its layout needs to know of it."""
        return OperatorShape(self.nodes[0], self.groups, self.kernel, self.layout.weight)

    @property
    def features(self) -> int:
        """K: input features of a group."""
        return self.channels.size // self.groups * prod(self.kernel)

    def feature_units(self, atom: AtomId) -> Ints:
        """Index of an atom for every input feature, (groups, K); -1 where a feature does not depend on it."""
        return np.repeat(coordinates(self.channels, atom).reshape(self.groups, -1), prod(self.kernel), axis=1)

    def kept_features(self, keeping: Keeping) -> Bools:
        """Which input features stay, (groups, K)."""
        return np.repeat(keeping.mask(self.channels).reshape(self.groups, -1), prod(self.kernel), axis=1)

    def kept_outputs(self, keeping: Keeping) -> Bools:
        """Which outputs stay, (groups, M)."""
        return keeping.mask(self.outputs).reshape(self.groups, -1)


@stage("linear operators")
def find_linears(graph: Graph, channels: ChannelGraph) -> tuple[Linear, ...]:
    """Return the linear operators that contract an activation with a stored weight, in graph order."""
    contracted = {(c.node, c.operand) for c in channels.contractions}
    sharing: dict[tuple[Any, ...], list[_Candidate]] = defaultdict(list)
    for node in graph.nodes:
        for layout in operator_of(node).layouts:
            candidate = _find(graph, node, layout) if (node.index, layout.consumed) in contracted else None
            if candidate is not None and _fits(channels, candidate):
                sharing[candidate.weights.name, *candidate.kind].append(candidate)
    computed = [one.weights.name for candidates in sharing.values() for one in candidates if not one.weights.stored]
    inside = {node for name in computed for node in computing(graph, name)}  # what makes others' weights goes with them
    parts = [[one for one in candidates if one.node.index not in inside] for candidates in sharing.values()]
    return tuple(_linear(graph, channels, tuple(part)) for part in parts if part)


@dataclass(frozen=True)
class _Candidate:
    """One node of a linear operator; see `Linear`."""

    node: Node
    layout: MatrixLayout
    end: Node
    tap: str
    weights: Parameter
    activation_qparams: tuple[float, float] | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """How it reads its weight and its activation: nodes that do so alike can be looked at together."""
        return (self.node.domain, self.node.op, self.layout, *self.layout.reading(self.node))


def _fits(channels: ChannelGraph, candidate: _Candidate) -> bool:
    node, layout = candidate.node, candidate.layout
    weight = channels.axes.get(node.inputs[layout.weight])
    known = {candidate.weights.name, candidate.tap}
    if layout.result_is_product:
        known |= {node.inputs[layout.activation], node.outputs[0]}
    if weight is None or not all(name in channels.axes for name in known):
        return False
    fits = layout.accepts(node, len(weight)) and layout.fits(weight, channels.axes[candidate.tap])
    return fits and all(term.size for term in weight)


def _find(graph: Graph, node: Node, layout: MatrixLayout) -> _Candidate | None:
    """None where the weights depend on what the model is fed, or the activation is stored."""
    tap, weights = layout.tap(node), find_parameter(graph, node, layout.weight)
    if weights is None or graph.is_constant(tap):
        return None
    if layout.quantized is None:
        return _Candidate(node, layout, node, tap, weights)
    maker = graph.producers.get(tap)
    if maker is not None and maker.op == "DynamicQuantizeLinear":
        tap = maker.inputs[0]
    reading = read_quantized(graph, node, layout.quantized, layout.output_axis(node))
    if reading is None:
        return None
    return _Candidate(node, layout, reading.end, tap, replace(weights, scheme=reading.scheme), reading.activation)


def _linear(graph: Graph, channels: ChannelGraph, candidates: tuple[_Candidate, ...]) -> Linear:
    node, weights, layout = candidates[0].node, candidates[0].weights, candidates[0].layout
    nodes = tuple(one.node for one in candidates)
    shape = tuple(term.size for term in channels.axes[weights.name])
    biases = tuple(_bias(graph, channels, one) for one in candidates)
    terms = _terms(channels, candidates[0])
    return Linear(
        nodes=nodes,
        ends=tuple(one.end for one in candidates),
        layout=layout,
        taps=tuple(one.tap for one in candidates),
        activation_qparams=candidates[0].activation_qparams,
        weights=weights,
        slots=tuple(dict.fromkeys(one.weights.use for one in candidates)),
        groups=terms.groups,
        biases=biases,
        channels=terms.inputs,
        outputs=terms.outputs,
        kernel=layout.kernel(shape),
        obstacle=obstacle_of_weights(graph, nodes, layout, weights)
        or obstacle_of_biases(graph, channels, nodes, layout, biases, terms.outputs.size),
        alpha=float(node.attributes.get("alpha", 1.0)),
        beta=float(node.attributes.get("beta", 1.0)),
    )


def _terms(channels: ChannelGraph, candidate: _Candidate) -> MatrixTerms:
    """Return the number of groups, and the terms of inputs and outputs."""
    weight, activation = channels.axes[candidate.weights.name], channels.axes[candidate.tap]
    return candidate.layout.terms(candidate.node, weight, activation, channels.axes.get(candidate.end.outputs[0], ()))


def _bias(graph: Graph, channels: ChannelGraph, candidate: _Candidate) -> Bias | None:
    node, layout = candidate.node, candidate.layout
    if layout.bias is not None:
        return (
            Bias(node.index, layout.bias, _bias_parameter(graph, candidate, layout.bias))
            if node.operand(layout.bias)
            else None
        )
    result = candidate.end.outputs[0]
    after = graph.consumers.get(result, ())
    if not layout.has_bias_after or len(after) != 1 or result in graph.exposed:
        return None
    adder, operand = after[0]
    place = 1 - operand if (adder.domain, adder.op) == ("", "Add") else operator_of(adder).added_vector
    if place is None or place == operand or not adder.operand(place):
        return None
    stored = _own(graph, adder, place)
    width = channels.axes[result][-1].size
    return Bias(adder.index, place, stored) if stored and shape_of(graph, channels, stored.name) == (width,) else None


def _bias_parameter(graph: Graph, candidate: _Candidate, operand: int) -> Parameter | None:
    """The parameter of a node's own bias, which has the scales of activation and weights where those are stored."""
    stored = _own(graph, candidate.node, operand)
    quantized, scheme = candidate.layout.quantized, candidate.weights.scheme
    if stored is None or quantized is None or quantized.activation is None or scheme is None:
        return stored
    return replace(
        stored, scheme=AffineQuantization((candidate.node.inputs[quantized.activation[0]], *scheme.scales), "", 0)
    )


def _own(graph: Graph, node: Node, operand: int) -> Parameter | None:
    """The parameter at an operand; as this node sees it where others read what it is made of."""
    parameter = find_parameter(graph, node, operand)
    if parameter is None or parameter.use == (node.index, operand) or len(list(readers(graph, parameter.name))) == 1:
        return parameter
    return Parameter(node.inputs[operand], (node.index, operand), graph.is_constant(node.inputs[operand]))


def weight_matrix(linear: Linear, array: Array) -> Floats:
    """Weights as (groups, K, M) float64, with what the operator multiplies its product by."""
    return linear.layout.to_matrix(linear.shape, array).astype(np.float64) * linear.alpha


def weights_of(model: Model, linear: Linear) -> Floats:
    """Weights of the model as `weight_matrix` gives them."""
    return weight_matrix(linear, linear.weights.value(model))


def new_bias(
    model: Model, linear: Linear, bias: Bias | None, shift: Floats, kept: Ints, sliced: Array | None = None
) -> Array:
    """Return the bias to store that adds `shift` (M,) to the results that stay, which are `kept` (M,).

    Where the operator stores several biases as one, `sliced` is what stays of it, with those that are known so far.
    """
    if linear.layout.shares_bias:
        old = 0.0 if sliced is None else linear.layout.bias_vector(sliced)
        vector = (old + shift).astype(seen_dtype(model, linear))
        return linear.layout.with_bias_vector(linear.nodes[0], sliced, vector)
    if bias is None or bias.stored is None:
        vector = np.asarray(shift / linear.beta).astype(seen_dtype(model, linear))
        return linear.layout.with_bias_vector(linear.nodes[0], None, vector)
    old = bias.stored.value(model).astype(np.float64)
    return bias.stored.encoded(model, old[kept] + shift / linear.beta, lambda axis: kept)


def seen_dtype(model: Model, linear: Linear) -> np.dtype[Any]:
    """Type of the weights as the operator sees them; of quantized ones that of their scale."""
    if linear.weights.scheme is not None and linear.weights.scheme.scales:
        return model.graph.constant_dtype(linear.weights.scheme.scales[0])
    node, operand = linear.nodes[0], linear.layout.weight
    if linear.weights.use == (node.index, operand):
        return linear.weights.dtype(model)
    return known_value(model, node.inputs[operand]).dtype


def kept_along_axes(graph: ChannelGraph, linear: Linear, keeping: Keeping) -> KeptAlongAxis:
    """Return what stays along each axis of the stored weight, for `Parameter.encoded`."""
    return lambda axis: keeping.positions(graph.axes[linear.weight_name][axis])


def weight_array(linear: Linear, matrix: Array, shape: tuple[int, ...]) -> Array:
    """Turn (groups, K, M) weights into the operator's own layout and shape."""
    return linear.layout.to_weights(linear.shape, matrix / linear.alpha, shape)


def columns_of(linear: Linear) -> tuple[int, ...]:
    """Axes of the activation that features lie on."""
    return linear.layout.feature_axes(linear.nodes[0])


def row_count(linear: Linear, activation: Array) -> int:
    """How many rows an activation holds: samples times positions, sample by sample."""
    return linear.layout.count(linear.shape, activation)


def feature_rows(linear: Linear, activation: Array, places: Ints) -> Array:
    """Return the input features at some rows, (groups, rows, K); `places` index the rows that `row_count` counts."""
    if linear.activation_qparams is not None:
        scale, zero = linear.activation_qparams
        activation = (activation.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    return linear.layout.feature_rows(linear.shape, activation, places)


def output_rows(linear: Linear, result: Array, places: Ints, groups: int) -> Array:
    """Return a tensor of the shape of the operator's result at the same rows, (groups, rows, M)."""
    return linear.layout.result_rows(linear.shape, result, places, groups)
