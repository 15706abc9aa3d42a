"""Gradients of operators that onnxruntime fuses out of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.gradients.attention import fused_attention, group_query_attention, multi_head_attention
from onnxmi.operators.gradients.contracting import CONTRACTING, factors, flips_of, operands
from onnxmi.operators.gradients.elementwise import SLOPES, Slope, tanh_gelu_slope
from onnxmi.operators.gradients.reducing import standardised
from onnxmi.operators.gradients.vjp import Call, Gradients, Rule, folded_to
from onnxmi.typing import Array

# Activations whose slope can be told from what came out: that of x Phi(x) cannot.
_BY_RESULT = ("Relu", "Sigmoid", "Tanh")
ACTIVATIONS: Mapping[str, Slope] = {"": lambda x, y, s: np.ones(()), **{op: SLOPES[op] for op in _BY_RESULT}}


def activation_of(node: Node) -> str:
    """Name of the activation that is fused into a product; "" where there is none."""
    return str(node.attributes.get("activation", ""))


def before_activation(node: Node, result: Array, gradient: Array) -> Array:
    """Gradient of what a node computes before its fused activation, from that of its result."""
    return np.asarray(gradient * ACTIVATIONS[activation_of(node)](result, result, {}), dtype=gradient.dtype)


def _inner(rule: Rule) -> Rule:
    """Of a product with an activation; what is added to a convolution's product shares its gradient."""

    def fused(call: Call) -> Gradients:
        inner = before_activation(call.node, call.y, call.g)
        made = list(rule(replace(call, upper=(inner,))))
        made.extend([None] * (len(call.node.inputs) - len(made)))
        if call.node.op == "FusedConv" and 3 in call.wanted:
            made[3] = inner
        return made

    return fused


def _fused_matmul(call: Call) -> Gradients:
    return factors(call, operands(call), call.get("alpha", 1.0) * call.g, flips_of(call))


def _biased(slope: Callable[[Array, Array], Array]) -> Rule:
    """Of an activation of the sum with a stored vector; the slope is told the sum and the result."""

    def rule(call: Call) -> Gradients:
        bias = call.operand(1)
        summed = call.x if bias is None else call.x + bias
        return call.only(np.asarray(call.g * slope(summed, call.y), dtype=call.g.dtype))

    return rule


def _skip_norm(centred: bool) -> Rule:
    """Of the normalisation of a sum, which may be a result itself: all terms have the same gradient."""

    def rule(call: Call) -> Gradients:
        bias = call.operand(4 if centred else 3)
        summed = call.x + call.values(call.node.inputs[1])
        summed = summed if bias is None else summed + bias
        scaled = call.g * call.values(call.node.inputs[2])
        made = standardised(summed, scaled, (-1,), call.get("epsilon", 1e-12), centred=centred)
        beside = call.upper[3] if len(call.upper) > 3 else None
        made = made if beside is None else made + beside
        return [folded_to(made, call.values(name).shape) for name in call.node.inputs[:2]]

    return rule


FUSED: Mapping[str, Rule] = {
    "Attention": fused_attention,
    "BiasGelu": _biased(lambda x, y: SLOPES["Gelu"](x, y, {})),
    "FastGelu": _biased(lambda x, y: tanh_gelu_slope(x)),
    "FusedConv": _inner(CONTRACTING["Conv"]),
    "FusedGemm": _inner(CONTRACTING["Gemm"]),
    "FusedMatMul": _fused_matmul,
    "GroupQueryAttention": group_query_attention,
    "MultiHeadAttention": multi_head_attention,
    "SkipLayerNormalization": _skip_norm(centred=True),
    "SkipSimplifiedLayerNormalization": _skip_norm(centred=False),
    "TransposeMatMul": _fused_matmul,
}
