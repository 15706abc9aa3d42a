"""Gradients of operators that sum, average or pick along axes, and of those that normalise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from onnxmi.operators.gradients.vjp import Call, Gradients, Rule
from onnxmi.typing import Array


def _axes(call: Call) -> tuple[int, ...]:
    given = call.integers(1, "axes")
    if not given:
        return () if given is not None and call.get("noop_with_empty_axes", 0) else tuple(range(call.x.ndim))
    return tuple(axis % call.x.ndim for axis in given)


def _reduced(slope: Callable[[Call, Array, tuple[int, ...]], Array]) -> Rule:
    """Of a reduction: `slope` is told the result as it would be with axes kept."""

    def rule(call: Call) -> Gradients:
        axes = _axes(call)
        shape = [1 if axis in axes else size for axis, size in enumerate(call.x.shape)]
        spread = np.broadcast_to(call.g.reshape(shape), call.x.shape)
        return call.only(np.asarray(spread * slope(call, call.y.reshape(shape), axes), dtype=call.g.dtype))

    return rule


def _share(call: Call, result: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(1.0 / max(prod(call.x.shape[axis] for axis in axes), 1))


def _winners(call: Call, result: Array, axes: tuple[int, ...]) -> Array:
    won = call.x == result
    return np.asarray(won / np.maximum(won.sum(axis=axes, keepdims=True), 1))


def _over_space(winner: bool) -> Rule:
    """A pool over the whole image."""

    def rule(call: Call) -> Gradients:
        axes = tuple(range(2, call.x.ndim))
        share = _winners(call, call.y, axes) if winner else _share(call, call.y, axes)
        return call.only(np.asarray(call.g * np.broadcast_to(share, call.x.shape), dtype=call.g.dtype))

    return rule


def _last_axes(call: Call) -> tuple[int, ...]:
    """Axes that a softmax runs over: before version 13 all from its axis on."""
    if call.opset >= 13:
        return (call.get("axis", -1),)
    return tuple(range(call.get("axis", 1) % call.x.ndim, call.x.ndim))


def _softmax(call: Call) -> Gradients:
    axes = _last_axes(call)
    mean = (call.g * call.y).sum(axis=axes, keepdims=True)
    return call.only(call.y * (call.g - mean))


def _log_softmax(call: Call) -> Gradients:
    axes = _last_axes(call)
    return call.only(call.g - np.exp(call.y) * call.g.sum(axis=axes, keepdims=True))


def standardised(x: Array, gradient: Array, axes: tuple[int, ...], epsilon: float, *, centred: bool = True) -> Array:
    """Gradient through (x - mean) / sqrt(variance + epsilon), or without the mean."""
    x = x - x.mean(axis=axes, keepdims=True) if centred else x
    scale = 1.0 / np.sqrt(np.square(x).mean(axis=axes, keepdims=True) + epsilon)
    unit = x * scale
    inner = gradient - unit * (gradient * unit).mean(axis=axes, keepdims=True)
    return np.asarray((inner - gradient.mean(axis=axes, keepdims=True) if centred else inner) * scale)


def _layer_norm(call: Call, *, centred: bool = True) -> Gradients:
    axes = tuple(range(call.get("axis", -1) % call.x.ndim, call.x.ndim))
    return call.only(standardised(call.x, call.g * call.operand(1), axes, call.get("epsilon", 1e-5), centred=centred))


def _rms_norm(call: Call) -> Gradients:
    return _layer_norm(call, centred=False)


def _along_channels(vector: Array, like: Array) -> Array:
    return vector.reshape(1, -1, *[1] * (like.ndim - 2))


def _batch_norm(call: Call) -> Gradients:
    scale, variance = call.values(call.node.inputs[1]), call.values(call.node.inputs[4])
    return call.only(call.g * _along_channels(scale / np.sqrt(variance + call.get("epsilon", 1e-5)), call.x))


def _instance_norm(call: Call) -> Gradients:
    scale = _along_channels(call.values(call.node.inputs[1]), call.x)
    axes = tuple(range(2, call.x.ndim))
    return call.only(standardised(call.x, call.g * scale, axes, call.get("epsilon", 1e-5)))


def _over_channels(values: Array, below: int, above: int) -> Array:
    """Sums over the channels from `below` before to `above` after each."""
    sums = np.pad(np.cumsum(values, axis=1), [(0, 0), (1, 0), *[(0, 0)] * (values.ndim - 2)])
    own = np.arange(values.shape[1])
    ends = np.minimum(own + above, len(own) - 1) + 1, np.maximum(own - below, 0)
    return np.asarray(sums[:, ends[0]] - sums[:, ends[1]])


def _local_norm(call: Call) -> Gradients:
    """Of x s**-beta, with s = bias + alpha / size * (sum of x**2 over channels nearby)."""
    size, beta = call.node.attributes["size"], call.get("beta", 0.75)
    below, above = (size - 1) // 2, size // 2
    weight = call.get("alpha", 1e-4) / size
    summed = call.get("bias", 1.0) + weight * _over_channels(np.square(call.x), below, above)
    felt = _over_channels(call.g * call.x * summed ** (-beta - 1), above, below)
    return call.only(call.g * summed**-beta - 2 * weight * beta * call.x * felt)


def _lp_norm(call: Call) -> Gradients:
    """Of x / ||x||, the Euclidean norm."""
    axis = call.get("axis", -1)
    norm = np.maximum(np.sqrt(np.square(call.x).sum(axis=axis, keepdims=True)), 1e-12)
    inner = (call.g * call.y).sum(axis=axis, keepdims=True)
    return call.only((call.g - call.y * inner) / norm)


def _cumulated(call: Call) -> Gradients:
    axis = int(np.reshape(call.values(call.node.inputs[1]), ()))
    backwards = call.g if call.get("reverse", 0) else np.flip(call.g, axis)
    summed = np.cumsum(backwards, axis=axis)
    summed = summed - backwards if call.get("exclusive", 0) else summed
    return call.only(summed if call.get("reverse", 0) else np.flip(summed, axis))


REDUCING: Mapping[str, Rule] = {
    "BatchNormalization": _batch_norm,
    "CumSum": _cumulated,
    "GlobalAveragePool": _over_space(winner=False),
    "GlobalMaxPool": _over_space(winner=True),
    "InstanceNormalization": _instance_norm,
    "LRN": _local_norm,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _log_softmax,
    "LpNormalization": _lp_norm,
    "RMSNormalization": _rms_norm,
    "ReduceL2": _reduced(lambda c, y, axes: c.x / np.maximum(y, 1e-20)),
    "ReduceMax": _reduced(_winners),
    "ReduceMean": _reduced(_share),
    "ReduceMin": _reduced(_winners),
    "ReduceSum": _reduced(lambda c, y, axes: np.ones(())),
    "ReduceSumSquare": _reduced(lambda c, y, axes: 2.0 * c.x),
    "SimplifiedLayerNormalization": _rms_norm,
    "Softmax": _softmax,
}
