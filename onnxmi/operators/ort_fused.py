"""Operators that onnxruntime fuses out of several: the records of their parts, with what the fusion changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.context import RuleContext
from onnxmi.operators.conv import CONV, CONV_TRANSPOSE, GROUPS, SLIDES, ConvRows, conv_vjp
from onnxmi.operators.elementwise import ELEMENTWISE, SLOPES, Slope, swish_slope, tanh_gelu_slope, unary, unary_vjp
from onnxmi.operators.matmul import (
    GEMM,
    MATMUL,
    MatrixRows,
    factor_gradients,
    gemm_vjp,
    product_macs,
    transpositions_of,
    two_operands,
)
from onnxmi.operators.operator import MICROSOFT, Key, Operator, never
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.operators.vjp import ALL_OPERANDS, Gradients, Vjp, VjpContext, VjpRule, with_settings
from onnxmi.typing import Array

# -- how axes are tied -------------------------------------------------------------------------------------------------

_FUSED_MATMUL = {
    (a, b): SignatureRule(f"... {'k i' if a else 'i k'}, ... {'j k' if b else 'k j'} -> ... i j", contracts=("k",))
    for a in (0, 1)
    for b in (0, 1)
}


def _fused_matmul_axes(ctx: RuleContext) -> None:
    turned = ctx.attribute("transBatchA", 0) or ctx.attribute("transBatchB", 0)
    if turned or min(len(operand or ()) for operand in ctx.ins[:2]) < 2:
        ctx.freeze_all("multiplies in a way that is not understood")
    else:
        _FUSED_MATMUL[int(ctx.attribute("transA", 0)), int(ctx.attribute("transB", 0))](ctx)


_FUSED_CONV = SignatureRule(
    "n (g c) *s, (g o) c *k, (g o)?, n (g o) *t? -> n (g o) *t",
    contracts=("c",),
    freezes=SLIDES,
    sizes=GROUPS,
)


# -- gradients ---------------------------------------------------------------------------------------------------------

# Activations whose slope can be told from what came out: that of x Phi(x) cannot. Their names with those of what they
# are given, in the order in which onnxruntime stores it beside a convolution.
_SETTINGS = {"": "", "Relu": "", "Sigmoid": "", "Tanh": "", "LeakyRelu": "alpha", "HardSigmoid": "alpha beta"}
ACTIVATIONS: Mapping[str, Slope] = {"": lambda x, y, s: np.ones(()), **{op: SLOPES[op] for op in _SETTINGS if op}}


def activation_of(node: Node) -> str:
    """Name of the activation that is fused into a product; "" where there is none."""
    return str(node.attributes.get("activation", ""))


def before_activation(node: Node, result: Array, gradient: Array) -> Array:
    """Gradient of what a node computes before its fused activation, from that of its result.

    The activation has to be one of `ACTIVATIONS`.
    """
    # No slope of these needs the operand: a leaky rectifier keeps the sign, a hard sigmoid's ends are its limits.
    slope = ACTIVATIONS[activation_of(node)](result, result, _settings_of(node))
    return np.asarray(gradient * slope, dtype=gradient.dtype)


def _settings_of(node: Node) -> dict[str, float]:
    """What the activation is given: beside a convolution as one list, beside a dense product each by its name."""
    names = _SETTINGS[activation_of(node)].split()
    listed = dict(zip(names, node.attributes.get("activation_params", ()), strict=False))
    return {name: node.attributes[key] for name in names if (key := f"activation_{name}") in node.attributes} | listed


def _with_activation(rule: VjpRule) -> VjpRule:
    """Of a product with an activation; what is added to a convolution's product shares its gradient."""

    def fused(ctx: VjpContext) -> Gradients:
        inner = before_activation(ctx.node, ctx.y, ctx.g)
        gradients = list(rule(replace(ctx, output_gradients=(inner,))))
        gradients.extend([None] * (len(ctx.node.inputs) - len(gradients)))
        if ctx.node.op == "FusedConv" and 3 in ctx.requested:
            gradients[3] = inner
        return gradients

    return fused


def _fused_matmul_vjp(ctx: VjpContext) -> Gradients:
    return factor_gradients(ctx, two_operands(ctx), ctx.get("alpha", 1.0) * ctx.g, transpositions_of(ctx))


def _biased_vjp(slope: Callable[[Array, Array], Array]) -> VjpRule:
    """Of an activation of the sum with a stored vector; the slope is told the sum and the result."""

    def rule(ctx: VjpContext) -> Gradients:
        bias = ctx.operand(1)
        summed = ctx.x if bias is None else ctx.x + bias
        return ctx.first_only(np.asarray(ctx.g * slope(summed, ctx.y), dtype=ctx.g.dtype))

    return rule


def _is_invertible(node: Node) -> bool:
    """Whether the slope of the fused activation can be told from what came out."""
    return activation_of(node) in ACTIVATIONS and _settings_of(node).get("alpha", 1.0) > 0.0


# -- records -----------------------------------------------------------------------------------------------------------

_FUSED_PRODUCT = replace(
    MATMUL,
    axes=_fused_matmul_axes,
    vjp=Vjp(_fused_matmul_vjp, ALL_OPERANDS, supports=with_settings(transBatchA=0, transBatchB=0)),
    positionwise=None,
)

OPERATORS: Mapping[Key, Operator] = {
    (MICROSOFT, "FusedGemm"): replace(
        GEMM,
        layouts=(MatrixRows(has_epilogue=True),),
        vjp=Vjp(_with_activation(gemm_vjp), ALL_OPERANDS, supports=_is_invertible),
        positionwise=None,
    ),
    (MICROSOFT, "FusedMatMul"): _FUSED_PRODUCT,
    (MICROSOFT, "TransposeMatMul"): _FUSED_PRODUCT,
    (MICROSOFT, "SparseToDenseMatMul"): Operator(macs=product_macs),
    (MICROSOFT, "FusedConv"): replace(
        CONV,
        axes=_FUSED_CONV,
        layouts=(ConvRows(has_epilogue=True, residual=3),),
        vjp=Vjp(_with_activation(conv_vjp), frozenset({0, 3}), supports=_is_invertible),
    ),
    (MICROSOFT, "NhwcFusedConv"): Operator(macs=CONV.macs),
    (MICROSOFT, "ConvTransposeWithDynamicPads"): Operator(macs=CONV_TRANSPOSE.macs),
    (MICROSOFT, "Gelu"): unary("Gelu"),
    (MICROSOFT, "QuickGelu"): replace(ELEMENTWISE, vjp=Vjp(unary_vjp(swish_slope(1.702)))),
    (MICROSOFT, "BiasGelu"): replace(
        ELEMENTWISE, vjp=Vjp(_biased_vjp(lambda x, y: SLOPES["Gelu"](x, y, {}))), added_vector=1
    ),
    (MICROSOFT, "FastGelu"): replace(
        ELEMENTWISE, vjp=Vjp(_biased_vjp(lambda x, y: tanh_gelu_slope(x))), added_vector=1
    ),
    # its operands have one shape, so a constant of size one cannot take the place of either
    (MICROSOFT, "BiasAdd"): replace(ELEMENTWISE, broadcasts_constants=never),
}
