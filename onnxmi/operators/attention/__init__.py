"""Attention as one operator: ONNX's own, and onnxruntime's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from onnxmi.axes.terms import Axes, Product
from onnxmi.model import Node
from onnxmi.operators.attention import axes, gradient, macs
from onnxmi.operators.matmul import MatrixRows
from onnxmi.operators.operator import MICROSOFT, STANDARD, Key, Operator, QueryKeyAxes
from onnxmi.operators.vjp import Vjp, VjpContext, without_operands
from onnxmi.typing import Array


class ProjectionRows(MatrixRows):
    """The projections to queries, keys and values, whose results lie inside the operator."""

    result_is_product = False

    def product_gradients(self, ctx: VjpContext) -> Array:
        """See `MatrixLayout.product_gradients`."""
        rows = gradient.projection_gradients(ctx)
        return rows.reshape(1, -1, rows.shape[-1])


def _query_keys(node: Node, queries: Axes, keys: Axes, bias: int | None = None) -> QueryKeyAxes | None:
    """Separate queries and keys with as many heads."""
    if len(queries) != len(keys):
        return None
    if len(queries) == 4:
        return QueryKeyAxes(queries, (*keys[:-2], *keys[:-3:-1]), turned=True, attends=True, bias=bias)
    if not (isinstance(queries[-1], Product) and isinstance(keys[-1], Product)) or queries[-1] != keys[-1]:
        return None
    *heads, dims = queries[-1].factors
    split = queries[0], Product(tuple(heads)), queries[1], dims
    turned = keys[0], Product(tuple(heads)), dims, keys[1]
    return QueryKeyAxes(split, turned, packed=split[1].size, turned=True, attends=True, bias=bias)


_SEPARATE = frozenset({0, 1, 2})  # queries, keys and values

ATTENTION = Operator(
    axes=axes.attention_axes,
    # neither a cache nor lengths
    vjp=Vjp(gradient.attention_vjp, _SEPARATE, supports=without_operands(4, 5, 6, softcap=0.0)),
    macs=partial(macs.attention_macs, past=4),
    query_keys=_query_keys,
)
PACKED_ATTENTION = Operator(
    axes=axes.packed_axes,
    layouts=(ProjectionRows(has_epilogue=True),),
    # neither a cache nor biases of scores
    vjp=Vjp(gradient.packed_vjp, supports=without_operands(4, 5, 6, do_rotary=0)),
    macs=partial(macs.packed_macs, past=4),
)
MULTI_HEAD_ATTENTION = Operator(
    axes=axes.multi_head_axes,
    vjp=Vjp(gradient.multi_head_vjp, _SEPARATE, supports=without_operands(6, 7, 8, 9)),
    macs=partial(macs.attention_macs, past=6),
    query_keys=partial(_query_keys, bias=3),
)
GROUP_QUERY_ATTENTION = Operator(
    axes=axes.grouped_query_axes,
    vjp=Vjp(gradient.grouped_query_vjp, _SEPARATE, supports=gradient.is_plain_grouped, all_outputs=True),
    macs=partial(macs.attention_macs, past=3),
)

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "Attention"): ATTENTION,
    (STANDARD, "RotaryEmbedding"): Operator(axes=partial(axes.rotary_axes, cos=1, sin=2)),
    (MICROSOFT, "RotaryEmbedding"): Operator(axes=partial(axes.rotary_axes, cos=2, sin=3)),
    (MICROSOFT, "Attention"): PACKED_ATTENTION,
    (MICROSOFT, "QAttention"): Operator(macs=partial(macs.packed_macs, past=8)),
    (MICROSOFT, "MultiHeadAttention"): MULTI_HEAD_ATTENTION,
    (MICROSOFT, "DecoderMaskedMultiHeadAttention"): Operator(macs=partial(macs.attention_macs, past=5)),
    (MICROSOFT, "GroupQueryAttention"): GROUP_QUERY_ATTENTION,
}
