"""Gradients of operators that work element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi, sqrt
from typing import Any

import numpy as np

from onnxmi.operators.gradients.vjp import Call, Gradients, Rule, folded_to
from onnxmi.typing import Array

Settings = Mapping[str, Any]
Slope = Callable[[Array, Array, Settings], Array]

_TANH_GELU = sqrt(2.0 / pi), 0.044715  # of the approximation by a hyperbolic tangent
_SELU = 1.67326319217681884765625, 1.05070102214813232421875  # ONNX's defaults


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _bell(x: Array) -> Array:
    """Density of the standard normal distribution."""
    return np.asarray(np.exp(-0.5 * np.square(x)) / sqrt(2.0 * pi))


def _gelu(x: Array, y: Array, settings: Settings) -> Array:
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


def _swish(alpha: float) -> Slope:
    def slope(x: Array, y: Array, settings: Settings) -> Array:
        factor = settings.get("alpha", alpha)
        gate = _sigmoid(factor * x)
        return np.asarray(gate * (1.0 + factor * x * (1.0 - gate)))

    return slope


def _mish(x: Array, y: Array, settings: Settings) -> Array:
    bent = np.tanh(np.logaddexp(0.0, x))
    return np.asarray(bent + x * (1.0 - bent**2) * _sigmoid(x))


def _hard_sigmoid(x: Array, y: Array, settings: Settings) -> Array:
    inside = (y > 0.0) & (y < 1.0)
    return np.asarray(inside * settings.get("alpha", 0.2))


def _hard_swish(x: Array, y: Array, settings: Settings) -> Array:
    gate = np.clip(x / 6.0 + 0.5, 0.0, 1.0)
    return np.asarray(gate + x / 6.0 * ((gate > 0.0) & (gate < 1.0)))


def _selu(x: Array, y: Array, settings: Settings) -> Array:
    alpha, gamma = (settings.get(name, value) for name, value in zip(("alpha", "gamma"), _SELU, strict=True))
    return np.asarray(gamma * np.where(x > 0.0, 1.0, alpha * np.exp(np.minimum(x, 0.0))))


def _elu(x: Array, y: Array, settings: Settings) -> Array:
    return np.where(x > 0.0, 1.0, settings.get("alpha", 1.0) * np.exp(np.minimum(x, 0.0)))


def _celu(x: Array, y: Array, settings: Settings) -> Array:
    return np.where(x > 0.0, 1.0, np.exp(np.minimum(x, 0.0) / settings.get("alpha", 1.0)))


def _clip(x: Array, y: Array, settings: Settings) -> Array:
    """One where nothing was clipped."""
    return np.asarray(y == x)


SLOPES: Mapping[str, Slope] = {
    "Abs": lambda x, y, s: np.sign(x),
    "Atan": lambda x, y, s: 1.0 / (1.0 + np.square(x)),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": lambda x, y, s: -np.sin(x),
    "Elu": _elu,
    "Erf": lambda x, y, s: 2.0 / sqrt(pi) * np.exp(-np.square(x)),
    "Exp": lambda x, y, s: y,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": lambda x, y, s: np.where(x < 0.0, s.get("alpha", 0.01), 1.0),
    "Log": lambda x, y, s: 1.0 / x,
    "Mish": _mish,
    "Neg": lambda x, y, s: np.asarray(-1.0),
    "QuickGelu": _swish(1.702),
    "Reciprocal": lambda x, y, s: -np.square(y),
    "Relu": lambda x, y, s: y > 0.0,
    "Selu": _selu,
    "Sigmoid": lambda x, y, s: y * (1.0 - y),
    "Sin": lambda x, y, s: np.cos(x),
    "Softplus": lambda x, y, s: _sigmoid(x),
    "Softsign": lambda x, y, s: 1.0 / np.square(1.0 + np.abs(x)),
    "Sqrt": lambda x, y, s: 0.5 / y,
    "Swish": _swish(1.0),
    "Tanh": lambda x, y, s: 1.0 - np.square(y),
    "ThresholdedRelu": lambda x, y, s: x > s.get("alpha", 1.0),
}
"""Operator -> derivative of its output y by its first input x; the others are settings."""


def _unary(slope: Slope) -> Rule:
    return lambda call: call.only(call.g * np.asarray(slope(call.x, call.y, call.node.attributes), dtype=call.g.dtype))


def _passed_on(call: Call) -> Gradients:
    return call.only(call.g)


def _every(call: Call, gradient: Callable[[int, Array], Array]) -> Gradients:
    """Gradient of each wanted operand, folded to its shape."""
    found: list[Array | None] = [None] * len(call.node.inputs)
    for position in call.wanted:
        value = call.values(call.node.inputs[position])
        found[position] = folded_to(np.asarray(gradient(position, value), dtype=call.g.dtype), value.shape)
    return found


def _add(call: Call) -> Gradients:
    return _every(call, lambda position, value: call.g)


def _sub(call: Call) -> Gradients:
    return _every(call, lambda position, value: -call.g if position else call.g)


def _mean(call: Call) -> Gradients:
    return _every(call, lambda position, value: call.g / len(call.node.inputs))


def _mul(call: Call) -> Gradients:
    return _every(call, lambda position, value: call.g * call.operand(1 - position))


def _div(call: Call) -> Gradients:
    below = call.values(call.node.inputs[1])
    return _every(call, lambda position, value: -call.g * call.y / below if position else call.g / below)


def _pow(call: Call) -> Gradients:
    base, power = call.x, call.values(call.node.inputs[1])

    def gradient(position: int, value: Array) -> Array:
        if position:
            return np.asarray(call.g * call.y * np.log(np.where(base > 0.0, base, 1.0)))
        return np.asarray(call.g * power * np.power(base, power - 1))

    return _every(call, gradient)


def _extreme(call: Call) -> Gradients:
    """Maximum and minimum: to whichever operand won, to equal ones in equal parts."""
    won = [np.equal(call.values(name), call.y) for name in call.node.inputs]
    shares = np.maximum(np.sum([np.broadcast_to(one, call.y.shape) for one in won], axis=0), 1)
    return _every(call, lambda position, value: call.g * won[position] / shares)


def _where(call: Call) -> Gradients:
    chosen = call.x.astype(bool)
    return _every(call, lambda position, value: call.g * (chosen if position == 1 else ~chosen))


def _prelu(call: Call) -> Gradients:
    slope = call.values(call.node.inputs[1])
    return _every(call, lambda position, x: call.g * (np.minimum(call.x, 0) if position else np.where(x < 0, slope, 1)))


def _scaled(call: Call) -> Gradients:
    """Integers times their scale, along an axis."""
    return call.only(call.g * _scale_of(call))


def _unscaled(call: Call) -> Gradients:
    """Rounding is passed straight through."""
    return call.only(call.g / _scale_of(call))


def _scale_of(call: Call) -> Array:
    scale = call.values(call.node.inputs[1])
    if scale.size == 1:
        return scale.reshape(())
    shape = [1] * call.x.ndim
    shape[call.get("axis", 1)] = -1
    return scale.reshape(shape)


ELEMENTWISE: Mapping[str, Rule] = {
    **{op: _unary(slope) for op, slope in SLOPES.items()},
    **dict.fromkeys(("Identity", "Dropout", "Cast", "CastLike"), _passed_on),
    "Add": _add,
    "DequantizeLinear": _scaled,
    "Div": _div,
    "Max": _extreme,
    "Mean": _mean,
    "Min": _extreme,
    "Mul": _mul,
    "PRelu": _prelu,
    "Pow": _pow,
    "QuantizeLinear": _unscaled,
    "Sub": _sub,
    "Sum": _add,
    "Where": _where,
}
