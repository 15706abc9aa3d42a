"""Matrix layouts: how one operator's arrays look as rows of input features and as a weight matrix.

For scoring and repair a Gemm, a (grouped) convolution, a recurrent layer and an Einsum are all
``Y[g] = X[g] @ W[g] + b[g]``, with rows X of shape (groups, rows, K) and W of shape (groups, K, M). Each family has its
own layout, which goes from the operator's arrays to these and back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from onnxmi.axes.terms import Axes, Term
from onnxmi.model import Node
from onnxmi.operators.vjp import VjpContext
from onnxmi.typing import Array, Ints, Shape


@dataclass(frozen=True)
class OperatorShape:
    """What a layout needs to know of one operator.

    Attributes
    ----------
    node : Node
        The operator.
    groups : int
        Groups of a convolution, directions of a recurrent layer, else 1.
    kernel : tuple of int
        Spatial shape of a convolution's kernel, else empty.
    weight : int
        Operand position of the weights.
    """

    node: Node
    groups: int
    kernel: Shape
    weight: int


@dataclass(frozen=True)
class QuantizedOperands:
    """Operand positions that say what an operator's integers stand for.

    Attributes
    ----------
    scale : int or None
        The weights' scale; None where a later operator multiplies by it, as of an activation quantized as it comes.
    zero : int
        The weights' zero point.
    activation : pair of int or None
        Scale and zero point of an activation that is quantized with stored ones.
    packed : bool
        Two weights to a byte, (outputs, blocks, bytes), and a scale for each block.
    """

    scale: int | None
    zero: int
    activation: tuple[int, int] | None = None
    packed: bool = False


@dataclass(frozen=True)
class MatrixTerms:
    """The terms of an operator's weight matrix.

    Attributes
    ----------
    groups : int
        How many groups have weights of their own.
    inputs, outputs : Term
        Terms of the contracted axis and of the results, each with the groups in it.
    """

    groups: int
    inputs: Term
    outputs: Term


@dataclass(frozen=True)
class MatrixLayout(ABC):
    """How one operator's arrays look as rows and matrices.

    Attributes
    ----------
    activation, weight : int
        Operand positions.
    bias : int or None
        That of the bias; None where only an operator after it can add one.
    has_epilogue : bool
        Something is done to the product and the bias inside the operator: an activation, gates, rounding.
    residual : int or None
        Position of an operand that is added to the product, too.
    quantized : QuantizedOperands or None
        For operators on integers.
    """

    activation: int = 0
    weight: int = 1
    bias: int | None = 2
    has_epilogue: bool = False
    residual: int | None = None
    quantized: QuantizedOperands | None = None

    name: ClassVar[str] = ""
    """What a second layout of the same operator is called."""
    channel_axis: ClassVar[int] = -1
    """The axis of the result that its outputs lie on."""
    weight_rank: ClassVar[int | None] = 2
    """Number of the weights' axes; None for any."""
    attributes: ClassVar[Mapping[str, Any]] = {}
    """Attributes that say how rows and matrices lie in the arrays, with what they are where they are not given."""
    has_bias_after: ClassVar[bool] = True
    """Whether a vector that a later operator adds lies along its outputs."""

    result_is_product: ClassVar[bool] = True
    """Whether the operator's result has the product's rows, with a bias and an epilogue at most done to them."""
    reads_own_result: ClassVar[bool] = False
    """Whether the rows are what the operator itself gives: there are none before it has run."""
    shares_bias: ClassVar[bool] = False
    """Whether the bias is a part of what the operator stores as one: another layout has another part of it."""

    @property
    def consumed(self) -> int:
        """The operand that the channels are declared to be consumed at."""
        return self.activation

    def tap(self, node: Node) -> str:
        """Name of the tensor that the rows are read from."""
        return node.inputs[self.activation]

    def accepts(self, node: Node, rank: int) -> bool:
        """Whether the layout describes a node with weights of so many axes."""
        return self.weight_rank in (None, rank)

    def fits(self, weight: Axes, activation: Axes) -> bool:
        """Whether the layout describes a weight and an activation of such axes."""
        return True

    def reading(self, node: Node) -> tuple[Any, ...]:
        """How a node reads its weight and its activation: nodes that do so alike can be looked at together."""
        return tuple(node.attributes.get(name, default) for name, default in self.attributes.items())

    def output_axis(self, node: Node) -> int:
        """Return the axis of the stored weights that scales and zero points may lie on."""
        return 1

    def why_not_requantized(self, node: Node) -> str | None:
        """Why new weights could not be stored with the scales of the old ones, if so."""
        return None

    def kernel(self, weight: Shape) -> Shape:
        """Spatial shape of the kernel of weights of a shape; empty where there is none."""
        return ()

    def feature_axes(self, node: Node) -> tuple[int, ...]:
        """Axes of the activation that features lie on."""
        return (self.channel_axis,)

    def feature_order(self, node: Node) -> str:
        """Name the order in which features lie on the activation; empty where they are its last axis."""
        return ""

    def why_not_refitted(self, node: Node) -> str | None:
        """Why a regression on the rows says nothing of the weights, if so."""
        return None

    def holds_bias(self, node: Node) -> bool:
        """Whether a vector could be added to the product; without one the regression goes through the origin."""
        return True

    def bias_shape(self, node: Node, outputs: int) -> Shape:
        """Shape that a stored bias of so many results has."""
        return (outputs,)

    def bias_vector(self, stored: Array) -> Array:
        """Return what is added to the product, (M,), of a bias as it is stored."""
        return stored

    def with_bias_vector(self, node: Node, stored: Array | None, vector: Array) -> Array:
        """Return a bias as it is stored with another vector added to the product; `stored` may be absent."""
        return vector

    def product_gradients(self, ctx: VjpContext) -> Array:
        """Gradient of the product by that of the operator's results, (groups, rows, M); where these are not the same.

        Only operators whose result is no product, and which have a gradient, are asked.
        """
        raise NotImplementedError

    @abstractmethod
    def terms(self, node: Node, weight: Axes, activation: Axes, result: Axes) -> MatrixTerms:
        """Return the groups and the terms of inputs and outputs, by those of the operator's tensors."""

    @abstractmethod
    def count(self, shape: OperatorShape, activation: Array) -> int:
        """Return the number of rows."""

    @abstractmethod
    def feature_rows(self, shape: OperatorShape, activation: Array, places: Ints) -> Array:
        """Return the input features at some rows, (groups, rows, K)."""

    @abstractmethod
    def result_rows(self, shape: OperatorShape, result: Array, places: Ints, groups: int) -> Array:
        """Return the entries of a result at some rows, (groups, rows, M)."""

    @abstractmethod
    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """Return stored weights as (groups, K, M)."""

    @abstractmethod
    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """Return (groups, K, M) as weights of a shape."""
