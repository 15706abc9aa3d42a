"""Products of matrices: MatMul and Gemm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from onnxmi.axes.terms import Axes
from onnxmi.model import Node
from onnxmi.operators.context import RuleContext
from onnxmi.operators.layout import MatrixLayout, MatrixTerms, OperatorShape
from onnxmi.operators.macs import RESULT, Axis, MacContext, Work
from onnxmi.operators.operator import STANDARD, Key, Operator, QueryKeyAxes
from onnxmi.operators.positionwise import CarriedAxes, PositionContext
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.operators.turned_layouts import HeadRows, LeftWeightRows, TurnedGemmRows
from onnxmi.operators.vjp import ALL_OPERANDS, Gradients, Vjp, VjpContext, sum_to_shape
from onnxmi.typing import Array, Ints, Shape

# -- how axes are tied -------------------------------------------------------------------------------------------------

_MATMUL = SignatureRule("... i k, ... k j -> ... i j", contracts=("k",))
_MATRIX_VECTOR = SignatureRule("... i k, k -> ... i", contracts=("k",))
_VECTOR_MATRIX = SignatureRule("k, ... k j -> ... j", contracts=("k",))
_DOT = SignatureRule("k, k ->", contracts=("k",))


def _matmul_axes(ctx: RuleContext) -> None:
    left, right = ctx.operand(0), ctx.operand(1)
    vectors = (left is not None and len(left) == 1, right is not None and len(right) == 1)
    {(False, False): _MATMUL, (False, True): _MATRIX_VECTOR, (True, False): _VECTOR_MATRIX, (True, True): _DOT}[
        vectors
    ](ctx)


# Gemm's four forms by (transA, transB); C broadcasts onto the output.
_GEMM = {
    (a, b): SignatureRule(f"{'k i' if a else 'i k'}, {'j k' if b else 'k j'}, ~ -> i j", contracts=("k",))
    for a in (0, 1)
    for b in (0, 1)
}


def gemm_axes(ctx: RuleContext) -> None:
    """One signature for each of the four forms."""
    _GEMM[int(ctx.attribute("transA", 0)), int(ctx.attribute("transB", 0))](ctx)


# -- matrix layout -----------------------------------------------------------------------------------------------------


class MatrixRows(MatrixLayout):
    """Features on the last axis of the activation; weights (K, M), or (M, K) with transB."""

    attributes: ClassVar[Mapping[str, Any]] = {"transB": 0, "alpha": 1.0}

    def accepts(self, node: Node, rank: int) -> bool:
        """See `MatrixLayout.accepts`: rows of a transposed activation are not on its last axis."""
        transposed = any(node.attributes.get(name, 0) for name in ("transA", "transBatchA", "transBatchB"))
        return super().accepts(node, rank) and not transposed

    def output_axis(self, node: Node) -> int:
        """See `MatrixLayout.output_axis`."""
        return 0 if node.attributes.get("transB", 0) else 1

    def terms(self, node: Node, weight: Axes, activation: Axes, result: Axes) -> MatrixTerms:
        """See `MatrixLayout.terms`; an operator with an epilogue may give other axes than its product has."""
        if self.has_epilogue:
            return MatrixTerms(1, activation[-1], weight[0 if node.attributes.get("transB", 0) else 1])
        return MatrixTerms(1, activation[-1], result[-1])

    def count(self, shape: OperatorShape, activation: Array) -> int:
        """See `MatrixLayout.count`."""
        return int(activation.size // activation.shape[-1])

    def feature_rows(self, shape: OperatorShape, activation: Array, places: Ints) -> Array:
        """See `MatrixLayout.feature_rows`."""
        return activation.reshape(-1, activation.shape[-1])[places][None]

    def result_rows(self, shape: OperatorShape, result: Array, places: Ints, groups: int) -> Array:
        """See `MatrixLayout.result_rows`."""
        return result.reshape(-1, result.shape[-1])[places][None]

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`."""
        return (weights.T if shape.node.attributes.get("transB", 0) else weights)[None]

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`."""
        return np.reshape(matrix[0].T if shape.node.attributes.get("transB", 0) else matrix[0], weight_shape)


# -- gradient ----------------------------------------------------------------------------------------------------------


def swap_last_axes(matrix: Array) -> Array:
    """Swap the last two axes."""
    return np.swapaxes(matrix, -1, -2)


def factor_gradients(
    ctx: VjpContext, pair: Sequence[Array], upper: Array, transposed: Sequence[int] = (0, 0)
) -> list[Array | None]:
    """Gradients of both factors of a product of matrices; either is transposed first where that is said of it."""
    left, right = (swap_last_axes(value) if flip else value for value, flip in zip(pair, transposed, strict=True))
    gradients: list[Array | None] = [None, None]
    for place, (rows, columns) in enumerate(((upper, swap_last_axes(right)), (swap_last_axes(left), upper))):
        if place in ctx.requested:
            product = np.matmul(rows, columns)
            gradients[place] = sum_to_shape(
                swap_last_axes(product) if transposed[place] else product, pair[place].shape
            )
    return gradients


def two_operands(ctx: VjpContext) -> tuple[Array, Array]:
    """Values of the first two operands."""
    return ctx.x, ctx.values(ctx.node.inputs[1])


def transpositions_of(ctx: VjpContext) -> tuple[int, int]:
    """Whether each factor is transposed."""
    return ctx.get("transA", 0), ctx.get("transB", 0)


def _matmul_vjp(ctx: VjpContext) -> Gradients:
    left, right = two_operands(ctx)
    upper = ctx.g
    if left.ndim == 1:
        upper = upper[..., None, :] if right.ndim > 1 else upper[..., None]
    if right.ndim == 1:
        upper = upper[..., None]
    rows = left[None, :] if left.ndim == 1 else left
    columns = right[:, None] if right.ndim == 1 else right
    gradients = zip(factor_gradients(ctx, (rows, columns), upper), (left, right), strict=True)
    return [None if gradient is None else gradient.reshape(value.shape) for gradient, value in gradients]


def gemm_vjp(ctx: VjpContext) -> Gradients:
    """Of alpha A B + beta C."""
    added = ctx.operand(2)
    bias = sum_to_shape(ctx.get("beta", 1.0) * ctx.g, added.shape) if 2 in ctx.requested and added is not None else None
    return [*factor_gradients(ctx, two_operands(ctx), ctx.get("alpha", 1.0) * ctx.g, transpositions_of(ctx)), bias]


# -- multiply-accumulates ----------------------------------------------------------------------------------------------


def product_macs(ctx: MacContext) -> Iterator[Work]:
    """Every entry of the result sums over the contracted axis of the left operand."""
    left = len(ctx.shape(0))
    contracted = left - 1
    if ctx.integer("transA"):  # where the batch is turned, too, the contracted axis comes first of all
        contracted = 0 if ctx.integer("transBatchA") else left - 2
    yield ctx.work((*ctx.axes(RESULT), *([Axis(0, contracted)] if left else [])))


# -- positions ---------------------------------------------------------------------------------------------------------


def _matmul_positions(ctx: PositionContext) -> CarriedAxes | None:
    """Rows come from the left operand; leading axes broadcast; columns are left alone."""
    ranks = [len(ctx.shapes[name]) for name in ctx.node.inputs[:2]]
    from_right = ctx.rank - ctx.axis
    if min(ranks) < 2 or from_right == 1:
        return None
    return ctx.aligned(range(1 if from_right == 2 else 2))


def _gemm_positions(ctx: PositionContext) -> CarriedAxes | None:
    if ctx.axis != 0 or ctx.node.attributes.get("transA", 0):
        return None
    return ((0, 0), *ctx.aligned(range(2, len(ctx.node.inputs))))


# -- queries and keys --------------------------------------------------------------------------------------------------


def product_query_keys(node: Node, queries: Axes, keys: Axes) -> QueryKeyAxes | None:
    """A MatMul of two activations, perhaps of keys that it turns."""
    if len(queries) != len(keys) or len(queries) < 2:
        return None
    if any(node.attributes.get(name, 0) for name in ("transA", "transBatchA", "transBatchB")):
        return None
    turned = bool(node.attributes.get("transB", 0))
    return QueryKeyAxes(queries, (*keys[:-2], *keys[:-3:-1]) if turned else keys, turned=turned)


# -- records -----------------------------------------------------------------------------------------------------------

MATMUL = Operator(
    axes=_matmul_axes,
    layouts=(MatrixRows(bias=None), HeadRows(bias=None), LeftWeightRows(activation=1, weight=0, bias=None)),
    vjp=Vjp(_matmul_vjp, ALL_OPERANDS),
    macs=product_macs,
    positionwise=_matmul_positions,
    query_keys=product_query_keys,
    per_position=True,
)
GEMM = Operator(
    axes=gemm_axes,
    layouts=(MatrixRows(), TurnedGemmRows()),
    vjp=Vjp(gemm_vjp, ALL_OPERANDS),
    macs=product_macs,
    positionwise=_gemm_positions,
)

OPERATORS: Mapping[Key, Operator] = {(STANDARD, "MatMul"): MATMUL, (STANDARD, "Gemm"): GEMM}
