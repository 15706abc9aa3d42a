"""Operators that work element by element, with broadcasting: the largest family, one axis rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import pi, sqrt
from typing import Any

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.context import RuleContext
from onnxmi.operators.operator import STANDARD, CostClass, Key, Operator, always, every_output, never
from onnxmi.operators.positionwise import broadcast_positions, first_operand_positions
from onnxmi.operators.signature_rule import broadcast
from onnxmi.operators.vjp import ALL_OPERANDS, Gradients, Vjp, VjpContext, VjpRule, sum_to_shape
from onnxmi.typing import Array

Settings = Mapping[str, Any]
Slope = Callable[[Array, Array, Settings], Array]


# -- how axes are tied -------------------------------------------------------------------------------------------------


def elementwise_axes(ctx: RuleContext) -> None:
    """Every output's axes are those of the inputs, broadcast."""
    for out in ctx.outs:
        for operand in ctx.ins:
            broadcast(ctx, operand, out)


def first_operand_axes(ctx: RuleContext) -> None:
    """Every output has the shape of the first input; the other operands are settings."""
    for out in ctx.outs:
        broadcast(ctx, ctx.operand(0), out)


def acts_on_entries(operator: Operator) -> bool:
    """Whether an operator makes each entry of its result from one entry of each operand, by these rules."""
    return operator.axes in (elementwise_axes, first_operand_axes)


def _dropout_axes(ctx: RuleContext) -> None:
    """In training mode it draws random numbers: cutting would change which are drawn."""
    first_operand_axes(ctx)
    if len(ctx.node.inputs) > 2 and ctx.node.inputs[2] and (ctx.value(2) is None or ctx.value(2)):
        ctx.freeze_all("draws random numbers for it")


# -- slopes of activations ---------------------------------------------------------------------------------------------

_TANH_GELU = sqrt(2.0 / pi), 0.044715  # of the approximation by a hyperbolic tangent
_SELU = 1.67326319217681884765625, 1.05070102214813232421875  # ONNX's defaults


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _bell(x: Array) -> Array:
    """Density of the standard normal distribution."""
    return np.asarray(np.exp(-0.5 * np.square(x)) / sqrt(2.0 * pi))


def _gelu_slope(x: Array, y: Array, settings: Settings) -> Array:
    """Of x Phi(x): Phi(x) + x phi(x), where Phi is what came out divided by x."""
    if settings.get("approximate", "none") == "tanh":
        return tanh_gelu_slope(x)
    share = np.divide(y, x, out=np.full(x.shape, 0.5, y.dtype), where=np.abs(x) > 1e-20)
    return np.asarray(share + x * _bell(x))


def tanh_gelu_slope(x: Array) -> Array:
    """Derivative of the approximation of x Phi(x) by a hyperbolic tangent."""
    scale, cubic = _TANH_GELU
    bent = np.tanh(scale * (x + cubic * x**3))
    return np.asarray(0.5 * (1.0 + bent) + 0.5 * x * (1.0 - bent**2) * scale * (1.0 + 3.0 * cubic * x**2))


def swish_slope(alpha: float) -> Slope:
    """Return the derivative of x sigmoid(alpha x); a node may state another alpha."""

    def slope(x: Array, y: Array, settings: Settings) -> Array:
        factor = settings.get("alpha", alpha)
        gate = _sigmoid(factor * x)
        return np.asarray(gate * (1.0 + factor * x * (1.0 - gate)))

    return slope


def _mish_slope(x: Array, y: Array, settings: Settings) -> Array:
    bent = np.tanh(np.logaddexp(0.0, x))
    return np.asarray(bent + x * (1.0 - bent**2) * _sigmoid(x))


def _hard_sigmoid_slope(x: Array, y: Array, settings: Settings) -> Array:
    inside = (y > 0.0) & (y < 1.0)
    return np.asarray(inside * settings.get("alpha", 0.2))


def _hard_swish_slope(x: Array, y: Array, settings: Settings) -> Array:
    gate = np.clip(x / 6.0 + 0.5, 0.0, 1.0)
    return np.asarray(gate + x / 6.0 * ((gate > 0.0) & (gate < 1.0)))


def _selu_slope(x: Array, y: Array, settings: Settings) -> Array:
    alpha, gamma = (settings.get(name, value) for name, value in zip(("alpha", "gamma"), _SELU, strict=True))
    return np.asarray(gamma * np.where(x > 0.0, 1.0, alpha * np.exp(np.minimum(x, 0.0))))


def _elu_slope(x: Array, y: Array, settings: Settings) -> Array:
    return np.where(x > 0.0, 1.0, settings.get("alpha", 1.0) * np.exp(np.minimum(x, 0.0)))


def _celu_slope(x: Array, y: Array, settings: Settings) -> Array:
    return np.where(x > 0.0, 1.0, np.exp(np.minimum(x, 0.0) / settings.get("alpha", 1.0)))


def _clip_slope(x: Array, y: Array, settings: Settings) -> Array:
    """One where nothing was clipped."""
    return np.asarray(y == x)


SLOPES: Mapping[str, Slope] = {
    "Abs": lambda x, y, s: np.sign(x),
    "Atan": lambda x, y, s: 1.0 / (1.0 + np.square(x)),
    "Celu": _celu_slope,
    "Clip": _clip_slope,
    "Cos": lambda x, y, s: -np.sin(x),
    "Elu": _elu_slope,
    "Erf": lambda x, y, s: 2.0 / sqrt(pi) * np.exp(-np.square(x)),
    "Exp": lambda x, y, s: y,
    "Gelu": _gelu_slope,
    "HardSigmoid": _hard_sigmoid_slope,
    "HardSwish": _hard_swish_slope,
    "LeakyRelu": lambda x, y, s: np.where(x < 0.0, s.get("alpha", 0.01), 1.0),
    "Log": lambda x, y, s: 1.0 / x,
    "Mish": _mish_slope,
    "Neg": lambda x, y, s: np.asarray(-1.0),
    "Reciprocal": lambda x, y, s: -np.square(y),
    "Relu": lambda x, y, s: y > 0.0,
    "Selu": _selu_slope,
    "Sigmoid": lambda x, y, s: y * (1.0 - y),
    "Sin": lambda x, y, s: np.cos(x),
    "Softplus": lambda x, y, s: _sigmoid(x),
    "Softsign": lambda x, y, s: 1.0 / np.square(1.0 + np.abs(x)),
    "Sqrt": lambda x, y, s: 0.5 / y,
    "Swish": swish_slope(1.0),
    "Tanh": lambda x, y, s: 1.0 - np.square(y),
    "ThresholdedRelu": lambda x, y, s: x > s.get("alpha", 1.0),
}
"""Operator -> derivative of its output y by its first input x; the others are settings."""


# -- gradients ---------------------------------------------------------------------------------------------------------


def unary_vjp(slope: Slope) -> VjpRule:
    """Return the gradient rule of an activation."""
    return lambda ctx: ctx.first_only(ctx.g * np.asarray(slope(ctx.x, ctx.y, ctx.node.attributes), dtype=ctx.g.dtype))


def _identity_vjp(ctx: VjpContext) -> Gradients:
    return ctx.first_only(ctx.g)


def _every_operand(ctx: VjpContext, gradient: Callable[[int, Array], Array]) -> Gradients:
    """Gradient of each wanted operand, folded to its shape."""
    gradients: list[Array | None] = [None] * len(ctx.node.inputs)
    for position in ctx.requested:
        value = ctx.values(ctx.node.inputs[position])
        gradients[position] = sum_to_shape(np.asarray(gradient(position, value), dtype=ctx.g.dtype), value.shape)
    return gradients


def _add_vjp(ctx: VjpContext) -> Gradients:
    return _every_operand(ctx, lambda position, value: ctx.g)


def _sub_vjp(ctx: VjpContext) -> Gradients:
    return _every_operand(ctx, lambda position, value: -ctx.g if position else ctx.g)


def _mean_vjp(ctx: VjpContext) -> Gradients:
    return _every_operand(ctx, lambda position, value: ctx.g / len(ctx.node.inputs))


def _mul_vjp(ctx: VjpContext) -> Gradients:
    return _every_operand(ctx, lambda position, value: ctx.g * ctx.operand(1 - position))


def _div_vjp(ctx: VjpContext) -> Gradients:
    below = ctx.values(ctx.node.inputs[1])
    return _every_operand(ctx, lambda position, value: -ctx.g * ctx.y / below if position else ctx.g / below)


def _pow_vjp(ctx: VjpContext) -> Gradients:
    base, power = ctx.x, ctx.values(ctx.node.inputs[1])

    def gradient(position: int, value: Array) -> Array:
        if position:
            return np.asarray(ctx.g * ctx.y * np.log(np.where(base > 0.0, base, 1.0)))
        return np.asarray(ctx.g * power * np.power(base, power - 1))

    return _every_operand(ctx, gradient)


def _extreme_vjp(ctx: VjpContext) -> Gradients:
    """Maximum and minimum: to whichever operand won, to equal ones in equal parts."""
    won = [np.equal(ctx.values(name), ctx.y) for name in ctx.node.inputs]
    shares = np.maximum(np.sum([np.broadcast_to(one, ctx.y.shape) for one in won], axis=0), 1)
    return _every_operand(ctx, lambda position, value: ctx.g * won[position] / shares)


def _where_vjp(ctx: VjpContext) -> Gradients:
    chosen = ctx.x.astype(bool)
    return _every_operand(ctx, lambda position, value: ctx.g * (chosen if position == 1 else ~chosen))


def _prelu_vjp(ctx: VjpContext) -> Gradients:
    slope = ctx.values(ctx.node.inputs[1])
    return _every_operand(
        ctx, lambda position, x: ctx.g * (np.minimum(ctx.x, 0) if position else np.where(x < 0, slope, 1))
    )


# -- records -----------------------------------------------------------------------------------------------------------

_FRACTIONS = frozenset({1, 10, 11, 16})  # numbers of float, float16, double and bfloat16 in the format
_WITHOUT_GRADIENT = (
    "Acos Acosh Asin Asinh Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cosh Mod Shrink Sinh Tan"
)
_STEPS = "And Ceil Equal Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Round Sign Xor"
_SLOW = "Erf Exp Gelu Sigmoid Tanh"
_OF_ALL_OPERANDS: Mapping[str, VjpRule] = {
    "Div": _div_vjp,
    "Max": _extreme_vjp,
    "Mean": _mean_vjp,
    "Min": _extreme_vjp,
    "Mul": _mul_vjp,
    "Pow": _pow_vjp,
    "Sub": _sub_vjp,
    "Sum": _add_vjp,
}


def _casts_to_integers(node: Node, output: int) -> bool:
    return node.attributes.get("to") not in _FRACTIONS


ELEMENTWISE = Operator(axes=elementwise_axes, positionwise=broadcast_positions, broadcasts_constants=always)
"""What all share; the gradient comes with each."""
_BY_FIRST = Operator(axes=first_operand_axes, positionwise=first_operand_positions, broadcasts_constants=always)
_STEP = replace(ELEMENTWISE, piecewise_constant=every_output)


def unary(op: str) -> Operator:
    """Return the record of an activation with a slope."""
    cost_class: CostClass = "slow" if op in _SLOW.split() else "plain"
    return replace(ELEMENTWISE, vjp=Vjp(unary_vjp(SLOPES[op])), cost_class=cost_class)


OPERATORS: Mapping[Key, Operator] = {
    **{(STANDARD, op): unary(op) for op in SLOPES if op != "Clip"},
    **{(STANDARD, op): replace(ELEMENTWISE, vjp=Vjp(rule, ALL_OPERANDS)) for op, rule in _OF_ALL_OPERANDS.items()},
    **{(STANDARD, op): _STEP for op in _STEPS.split()},
    **{(STANDARD, op): ELEMENTWISE for op in _WITHOUT_GRADIENT.split()},
    (STANDARD, "Add"): replace(ELEMENTWISE, vjp=Vjp(_add_vjp, ALL_OPERANDS), adds_operands=True),
    # the slope has to broadcast to the operand, so a constant of size one cannot take its place
    (STANDARD, "PRelu"): replace(ELEMENTWISE, vjp=Vjp(_prelu_vjp, ALL_OPERANDS), broadcasts_constants=never),
    (STANDARD, "Where"): replace(ELEMENTWISE, vjp=Vjp(_where_vjp, frozenset({1, 2}))),
    (STANDARD, "Identity"): replace(ELEMENTWISE, vjp=Vjp(_identity_vjp), copies=True),
    (STANDARD, "Cast"): replace(
        ELEMENTWISE, vjp=Vjp(_identity_vjp), piecewise_constant=_casts_to_integers, copies=True
    ),
    (STANDARD, "CastLike"): replace(_BY_FIRST, vjp=Vjp(_identity_vjp)),
    (STANDARD, "Clip"): replace(_BY_FIRST, vjp=Vjp(unary_vjp(SLOPES["Clip"]))),
    (STANDARD, "Dropout"): Operator(axes=_dropout_axes, vjp=Vjp(_identity_vjp)),
}
