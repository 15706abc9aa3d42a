"""Quantized operators: scales and zero points are one number, or one a channel, and go with the channels.

In an integer tensor a cut channel is not 0 but the zero point, which the contraction names. Where a scale is computed
from the data (DynamicQuantizeLinear), the range always includes 0, so that masking before it is masking after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from onnxmi.axes.unify import TermId
from onnxmi.operators.context import AxisRule, RuleContext, Terms
from onnxmi.operators.conv import GROUPS, SLIDES, ConvRows, conv_macs
from onnxmi.operators.layout import OperatorShape, QuantizedOperands
from onnxmi.operators.matmul import MatrixRows, product_macs
from onnxmi.operators.operator import MICROSOFT, STANDARD, Key, Operator
from onnxmi.operators.pooling import POOLED
from onnxmi.operators.reshape import concatenate
from onnxmi.operators.signature_rule import SignatureRule, broadcast
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext
from onnxmi.typing import Array, Shape

# -- how axes are tied -------------------------------------------------------------------------------------------------


def _quantize_linear_axes(ctx: RuleContext) -> None:
    """QuantizeLinear and DequantizeLinear: elementwise; scale and zero point lie on `axis`, or in blocks along it."""
    operand, out = ctx.operand(0), ctx.outs[0]
    if operand is None or out is None:
        return
    ctx.unify_axes(operand, out)
    for position in (1, 2):
        _unify_parameter(ctx, ctx.operand(position), operand, int(ctx.attribute("axis", 1)))


def _unify_parameter(ctx: RuleContext, parameter: Terms | None, operand: Terms, axis: int) -> None:
    if parameter is None or all(ctx.size(term) == 1 for term in parameter):
        return
    if len(parameter) == 1 and ctx.size(parameter[0]) == ctx.size(operand[axis]):
        ctx.unify(parameter[0], operand[axis])
        return
    if len(parameter) == len(operand):
        for place, (term, other) in enumerate(zip(parameter, operand, strict=True)):
            if place != axis % len(operand):
                ctx.unify(term, other)
    ctx.freeze([operand[axis], *(parameter if len(parameter) != len(operand) else [parameter[axis]])], "has blocks")


def _dynamic_quantize_axes(ctx: RuleContext) -> None:
    """The range runs over everything: consumed here as far as the oracle is concerned."""
    operand = ctx.operand(0)
    if operand is None:
        return
    ctx.unify_axes(operand, ctx.outs[0])
    for axis in range(len(operand)):
        ctx.contract(0, axis)


def _with_zero_points(rule: SignatureRule, zeros: dict[int, int]) -> AxisRule:
    """Run a signature, then name the zero points of the operands that it contracts."""

    def run(ctx: RuleContext) -> None:
        before = len(ctx.declarations.contractions)
        rule(ctx)
        own = ctx.declarations.contractions[before:]
        ctx.declarations.contractions[before:] = [replace(one, zero=zeros.get(one.operand)) for one in own]

    return run


def _qgemm_axes(ctx: RuleContext) -> None:
    """A Gemm on integers; (value, scale, zero point) for each operand, then the bias and the result's."""
    if ctx.attribute("transA", 0):
        ctx.freeze_all("turns its first operand, which is not understood")
    else:
        _QGEMM[int(ctx.attribute("transB", 0))](ctx)


def _elementwise_axes(ctx: RuleContext) -> None:
    """An elementwise operator on quantized tensors: (value, scale, zero point) for each."""
    for position, operand in enumerate(ctx.ins):
        if position == 0 or (operand and not all(ctx.size(term) == 1 for term in operand)):
            broadcast(ctx, operand, ctx.outs[0])


def _qlinear_concat_axes(ctx: RuleContext) -> None:
    """QLinearConcat: output scale and zero point, then (value, scale, zero point) for each."""
    concatenate(ctx, ctx.ins[2::3])


def _qlinear_pool_axes(ctx: RuleContext) -> None:
    (_POOL_LAST if ctx.attribute("channels_last", 0) else _POOL_FIRST)(ctx)


def _matmul_nbits_axes(ctx: RuleContext) -> None:
    """MatMulNBits: the weights of a block of inputs share a byte string and a scale, so whole blocks are cut."""
    source, weights = ctx.operand(0), ctx.operand(1)
    if source is None or weights is None or len(weights) != 3:
        ctx.freeze_all("packs its weights in a way that is not understood")
        return
    outputs, blocks = weights[0], weights[1]
    inside = ctx.solver.dim(int(ctx.attribute("block_size")))
    inputs = ctx.solver.product([blocks, inside])
    ctx.freeze([inside, weights[2]], "packs blocks of it")
    ctx.unify(source[-1], inputs)
    if ctx.operand(3) is not None:  # zero points: several of a row share a byte
        ctx.freeze([outputs, blocks], "packs its zero points")
    ctx.declare_size("N", outputs)
    ctx.declare_size("K", inputs)
    ctx.contract(0, -1)
    _unify_scales(ctx, ctx.operand(2), outputs, blocks)
    result = ctx.outs[0]
    assert result is not None
    ctx.unify_axes((*source[:-1], outputs), result)
    broadcast(ctx, ctx.operand(5), result)


def _unify_scales(ctx: RuleContext, scales: Terms | None, outputs: TermId, blocks: TermId) -> None:
    if scales is None:
        return
    if len(scales) == 2:
        ctx.unify_axes(scales, (outputs, blocks))
    else:
        ctx.unify(scales[0], ctx.solver.product([outputs, blocks]))


_POOL_FIRST = SignatureRule("n c *s, _!, _!?, _!, _!? -> n c *t", freezes=POOLED)
_POOL_LAST = SignatureRule("n *s c, _!, _!?, _!, _!? -> n *t c", freezes=POOLED)
_CONV_INTEGER = SignatureRule(
    "n (g c) *s, (g o) c *k, _!?, (g o)!? -> n (g o) *t", contracts=("c",), freezes=SLIDES, sizes=GROUPS
)
_QLINEAR_CONV = SignatureRule(
    "n (g c) *s, _!, _!, (g o) c *k, (g o)!, (g o)!, _!, _!, (g o)? -> n (g o) *t",
    contracts=("c",),
    freezes=SLIDES,
    sizes=GROUPS,
)
_MATMUL_INTEGER = SignatureRule("... i k, ... k j, i!?, j!? -> ... i j", contracts=("k",))
_QLINEAR_MATMUL = SignatureRule("... i k, i!, i!, ... k j, j!, j!, j!, j! -> ... i j", contracts=("k",))
_QGEMM = {
    turned: _with_zero_points(
        SignatureRule(f"i k, _!, _!, {'j k' if turned else 'k j'}, j!, j!, ~, _!?, _!? -> i j", contracts=("k",)),
        {0: 2, 3: 5},
    )
    for turned in (0, 1)
}
_TO_FLOAT = SignatureRule("... i k, ... k j, i!, j!, i!?, j!?, j? -> ... i j", contracts=("k",))
_DYNAMIC = SignatureRule("... k, k j, j!, j!?, j? -> ... j", contracts=("k",))


# -- matrix layout -----------------------------------------------------------------------------------------------------


class PackedRows(MatrixRows):
    """Weights (M, blocks, bytes), of which several are packed into a byte."""

    weight_rank = 3

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`."""
        return weights.T[None]

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`, whatever the shape in which it is packed."""
        return np.asarray(matrix[0].T)


# -- gradients ---------------------------------------------------------------------------------------------------------


def _dequantize_vjp(ctx: VjpContext) -> Gradients:
    """Integers times their scale, along an axis."""
    return ctx.first_only(ctx.g * _scale_of(ctx))


def _quantize_vjp(ctx: VjpContext) -> Gradients:
    """Rounding is passed straight through."""
    return ctx.first_only(ctx.g / _scale_of(ctx))


def _scale_of(ctx: VjpContext) -> Array:
    scale = ctx.values(ctx.node.inputs[1])
    if scale.size == 1:
        return scale.reshape(())
    shape = [1] * ctx.x.ndim
    shape[ctx.get("axis", 1)] = -1
    return scale.reshape(shape)


# -- records -----------------------------------------------------------------------------------------------------------

_STORED = QuantizedOperands(4, 5, activation=(1, 2))
_QLINEAR_CONVOLUTION = Operator(
    axes=_with_zero_points(_QLINEAR_CONV, {0: 2}),
    layouts=(ConvRows(weight=3, bias=8, has_epilogue=True, quantized=_STORED),),
    macs=partial(conv_macs, weight=3),
    convolves=True,
)
QUANTIZE = Operator(axes=_quantize_linear_axes, vjp=Vjp(_quantize_vjp))
DEQUANTIZE = Operator(axes=_quantize_linear_axes, vjp=Vjp(_dequantize_vjp), dequantizes=True)
_PRODUCT = Operator(macs=product_macs)
_ELEMENTS = Operator(axes=_elementwise_axes)
_POOL = Operator(axes=_qlinear_pool_axes)

OPERATORS: Mapping[Key, Operator] = {
    **{(domain, "QuantizeLinear"): QUANTIZE for domain in (STANDARD, MICROSOFT)},
    **{(domain, "DequantizeLinear"): DEQUANTIZE for domain in (STANDARD, MICROSOFT)},
    (STANDARD, "DynamicQuantizeLinear"): Operator(axes=_dynamic_quantize_axes),
    (STANDARD, "ConvInteger"): Operator(
        axes=_with_zero_points(_CONV_INTEGER, {0: 2}),
        layouts=(ConvRows(bias=None, has_epilogue=True, quantized=QuantizedOperands(None, 3)),),
        macs=partial(conv_macs, weight=1),
        convolves=True,
    ),
    (STANDARD, "QLinearConv"): _QLINEAR_CONVOLUTION,
    (MICROSOFT, "QLinearConv"): _QLINEAR_CONVOLUTION,
    (STANDARD, "MatMulInteger"): Operator(
        axes=_with_zero_points(_MATMUL_INTEGER, {0: 2, 1: 3}),
        layouts=(MatrixRows(bias=None, quantized=QuantizedOperands(None, 3)),),
        macs=product_macs,
        per_position=True,
    ),
    (STANDARD, "QLinearMatMul"): Operator(
        axes=_with_zero_points(_QLINEAR_MATMUL, {0: 2, 3: 5}),
        layouts=(MatrixRows(weight=3, bias=None, has_epilogue=True, quantized=_STORED),),
        macs=product_macs,
        per_position=True,
    ),
    (MICROSOFT, "MatMulIntegerToFloat"): Operator(
        axes=_with_zero_points(_TO_FLOAT, {0: 4, 1: 5}),
        layouts=(MatrixRows(bias=6, quantized=QuantizedOperands(3, 5)),),
        macs=product_macs,
        per_position=True,
    ),
    (MICROSOFT, "DynamicQuantizeMatMul"): Operator(
        axes=_DYNAMIC,
        layouts=(MatrixRows(bias=4, quantized=QuantizedOperands(2, 3)),),
        macs=product_macs,
        per_position=True,
    ),
    (MICROSOFT, "MatMulNBits"): Operator(
        axes=_matmul_nbits_axes,
        layouts=(PackedRows(bias=5, quantized=QuantizedOperands(2, 3, packed=True)),),
        macs=product_macs,
        per_position=True,
    ),
    **{(MICROSOFT, f"MatMul{kind}"): _PRODUCT for kind in ("Integer16", "Bnb4", "FpQ4")},
    (MICROSOFT, "QGemm"): Operator(
        axes=_qgemm_axes,
        layouts=(MatrixRows(weight=3, bias=6, has_epilogue=True, quantized=_STORED),),
        macs=product_macs,
    ),
    **{(MICROSOFT, f"QLinear{op}"): _ELEMENTS for op in ("Add", "Mul", "LeakyRelu", "Sigmoid")},
    **{(MICROSOFT, f"QLinear{op}"): _POOL for op in ("AveragePool", "GlobalAveragePool")},
    (MICROSOFT, "QLinearConcat"): Operator(axes=_qlinear_concat_axes),
}
