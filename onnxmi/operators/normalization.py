"""Normalizations.

One that divides by the mean or the variance of an axis is another function when the axis is shorter: renormalizing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.context import RuleContext, Terms
from onnxmi.operators.operator import MICROSOFT, STANDARD, Key, NormParameters, Operator
from onnxmi.operators.positionwise import CarriedAxes, PositionContext
from onnxmi.operators.signature_rule import SignatureRule, broadcast
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext, VjpRule, sum_to_shape, with_settings
from onnxmi.typing import Array

# -- how axes are tied -------------------------------------------------------------------------------------------------

_BATCH_NORM = SignatureRule("n c *s, c, c, c, c -> n c *s, c?, c?, c?, c?")
_TRAINED_BATCH_NORM = SignatureRule("n c *s, c, c, c, c -> n c *s, c?, c?, c?, c?", normalises=("n", "*s"))


def _batch_norm_axes(ctx: RuleContext) -> None:
    """In training mode the statistics are those of the batch: weight standardization is written so."""
    (_TRAINED_BATCH_NORM if ctx.attribute("training_mode", 0) else _BATCH_NORM)(ctx)


def _normalize_from(ctx: RuleContext, operand: Terms, start: int) -> None:
    """Note that a normalization runs over the last axes of an operand, from `start` on."""
    ctx.normalize_over(range(start % len(operand), len(operand)))


def _layer_norm_axes(ctx: RuleContext) -> None:
    """Normalizes over the last axes, from `axis` on; scale and shift lie on them, mean and deviation do not."""
    operand = ctx.operand(0)
    if operand is None:
        return
    _normalize_from(ctx, operand, int(ctx.attribute("axis", -1)) % len(operand))
    for parameter in (*ctx.ins[1:], *ctx.outs):
        broadcast(ctx, parameter, operand)


def _skip_layer_norm_axes(ctx: RuleContext) -> None:
    """Adds, then normalizes over the last axis; a further output is the sum."""
    operand = ctx.operand(0)
    if operand is None:
        return
    _normalize_from(ctx, operand, -1)
    for other in (*ctx.ins[1:], *ctx.outs):
        broadcast(ctx, other, operand)


_EMBEDDING = SignatureRule(
    "b s, b s?, v e, p e, t e?, e, e, b s?, b s? -> b s e, b?, b s e?",
    normalises=("e",),
    freezes=dict.fromkeys("vpt", "looks positions up in it"),
)


def _group_norm_axes(ctx: RuleContext) -> None:
    """Groups are independent of one another; inside one, everything is normalized over."""
    operand, scale = ctx.operand(0), ctx.operand(1)
    if operand is None or scale is None:
        return
    by_group = ctx.size(scale[0]) == int(ctx.attribute("num_groups", 1)) != ctx.size(operand[1])
    parameters = "g, g" if by_group else "(g c), (g c)"
    SignatureRule(f"n (g c) *s, {parameters} -> n (g c) *s", normalises=("c", "*s"), sizes={"g": "num_groups"})(ctx)


def _mean_variance_axes(ctx: RuleContext) -> None:
    operand = ctx.operand(0)
    if operand is None:
        return
    ctx.normalize_over(ctx.attribute("axes", (0, 2, 3)))
    ctx.unify_axes(operand, ctx.outs[0])


def _lp_norm_axes(ctx: RuleContext) -> None:
    """Divides by a norm: a channel that is zero adds nothing to it, so it is consumed here."""
    operand = ctx.operand(0)
    if operand is not None:
        ctx.contract(0, int(ctx.attribute("axis", -1)))
        ctx.unify_axes(operand, ctx.outs[0])


_NEIGHBOURS = SignatureRule("n c *s -> n c *s", normalises=("c",))


# -- gradients ---------------------------------------------------------------------------------------------------------


def standardize_vjp(
    x: Array, gradient: Array, axes: tuple[int, ...], epsilon: float, *, centered: bool = True
) -> Array:
    """Gradient through (x - mean) / sqrt(variance + epsilon), or without the mean."""
    x = x - x.mean(axis=axes, keepdims=True) if centered else x
    scale = 1.0 / np.sqrt(np.square(x).mean(axis=axes, keepdims=True) + epsilon)
    unit = x * scale
    inner = gradient - unit * (gradient * unit).mean(axis=axes, keepdims=True)
    return np.asarray((inner - gradient.mean(axis=axes, keepdims=True) if centered else inner) * scale)


def _layer_norm_vjp(ctx: VjpContext, *, centered: bool = True) -> Gradients:
    axes = tuple(range(ctx.get("axis", -1) % ctx.x.ndim, ctx.x.ndim))
    return ctx.first_only(
        standardize_vjp(ctx.x, ctx.g * ctx.operand(1), axes, ctx.get("epsilon", 1e-5), centered=centered)
    )


def _rms_norm_vjp(ctx: VjpContext) -> Gradients:
    return _layer_norm_vjp(ctx, centered=False)


def _along_channels(vector: Array, like: Array) -> Array:
    return vector.reshape(1, -1, *[1] * (like.ndim - 2))


def _batch_norm_vjp(ctx: VjpContext) -> Gradients:
    scale, variance = ctx.values(ctx.node.inputs[1]), ctx.values(ctx.node.inputs[4])
    return ctx.first_only(ctx.g * _along_channels(scale / np.sqrt(variance + ctx.get("epsilon", 1e-5)), ctx.x))


def _instance_norm_vjp(ctx: VjpContext) -> Gradients:
    scale = _along_channels(ctx.values(ctx.node.inputs[1]), ctx.x)
    axes = tuple(range(2, ctx.x.ndim))
    return ctx.first_only(standardize_vjp(ctx.x, ctx.g * scale, axes, ctx.get("epsilon", 1e-5)))


def _over_channels(values: Array, below: int, above: int) -> Array:
    """Sums over the channels from `below` before to `above` after each."""
    sums = np.pad(np.cumsum(values, axis=1), [(0, 0), (1, 0), *[(0, 0)] * (values.ndim - 2)])
    own = np.arange(values.shape[1])
    ends = np.minimum(own + above, len(own) - 1) + 1, np.maximum(own - below, 0)
    return np.asarray(sums[:, ends[0]] - sums[:, ends[1]])


def _local_norm_vjp(ctx: VjpContext) -> Gradients:
    """Of x s**-beta, with s = bias + alpha / size * (sum of x**2 over channels nearby)."""
    size, beta = ctx.node.attributes["size"], ctx.get("beta", 0.75)
    below, above = (size - 1) // 2, size // 2
    weight = ctx.get("alpha", 1e-4) / size
    summed = ctx.get("bias", 1.0) + weight * _over_channels(np.square(ctx.x), below, above)
    through_sum = _over_channels(ctx.g * ctx.x * summed ** (-beta - 1), above, below)
    return ctx.first_only(ctx.g * summed**-beta - 2 * weight * beta * ctx.x * through_sum)


def _lp_norm_vjp(ctx: VjpContext) -> Gradients:
    """Of x / ||x||, the Euclidean norm."""
    axis = ctx.get("axis", -1)
    norm = np.maximum(np.sqrt(np.square(ctx.x).sum(axis=axis, keepdims=True)), 1e-12)
    inner = (ctx.g * ctx.y).sum(axis=axis, keepdims=True)
    return ctx.first_only((ctx.g - ctx.y * inner) / norm)


def _skip_norm_vjp(*, centered: bool) -> VjpRule:
    """Of the normalization of a sum, which may be a result itself: all terms have the same gradient."""

    def rule(ctx: VjpContext) -> Gradients:
        bias = ctx.operand(4 if centered else 3)
        summed = ctx.x + ctx.values(ctx.node.inputs[1])
        summed = summed if bias is None else summed + bias
        scaled = ctx.g * ctx.values(ctx.node.inputs[2])
        gradient = standardize_vjp(summed, scaled, (-1,), ctx.get("epsilon", 1e-12), centered=centered)
        beside = ctx.output_gradients[3] if len(ctx.output_gradients) > 3 else None
        gradient = gradient if beside is None else gradient + beside
        return [sum_to_shape(gradient, ctx.values(name).shape) for name in ctx.node.inputs[:2]]

    return rule


# -- positions ---------------------------------------------------------------------------------------------------------


def _layer_norm_positions(ctx: PositionContext) -> CarriedAxes | None:
    """Axes before the normalized ones; mean and deviation are other results, of other shapes."""
    if ctx.axis >= int(ctx.node.attributes.get("axis", -1)) % ctx.rank or any(ctx.node.outputs[1:]):
        return None
    return ctx.aligned()


def _skip_layer_norm_positions(ctx: PositionContext) -> CarriedAxes | None:
    """Over the last axis; the sum is another result, of the same shape."""
    return ctx.aligned() if ctx.axis < ctx.rank - 1 else None


# -- records -----------------------------------------------------------------------------------------------------------


def _uses_stored_statistics(node: Node) -> bool:
    return not node.attributes.get("training_mode", 0)


LAYER_NORM = Operator(
    axes=_layer_norm_axes,
    vjp=Vjp(_layer_norm_vjp),
    positionwise=_layer_norm_positions,
    norm_parameters=NormParameters(1, 2),
)
RMS_NORM = replace(LAYER_NORM, vjp=Vjp(_rms_norm_vjp), norm_parameters=NormParameters(1, None))
SKIP_LAYER_NORM = Operator(
    axes=_skip_layer_norm_axes,
    vjp=Vjp(_skip_norm_vjp(centered=True), frozenset({0, 1}), all_outputs=True),
    positionwise=_skip_layer_norm_positions,
    norm_parameters=NormParameters(2, 3),
    added_vector=4,
    adds_operands=True,
)
SKIP_RMS_NORM = replace(
    SKIP_LAYER_NORM,
    vjp=Vjp(_skip_norm_vjp(centered=False), frozenset({0, 1}), all_outputs=True),
    norm_parameters=NormParameters(2, None),
    added_vector=3,
)
BATCH_NORM = Operator(
    axes=_batch_norm_axes,
    vjp=Vjp(_batch_norm_vjp, supports=_uses_stored_statistics),
    broadcasts_constants=_uses_stored_statistics,
)

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "BatchNormalization"): BATCH_NORM,
    (STANDARD, "InstanceNormalization"): Operator(
        axes=SignatureRule("n c *s, c, c -> n c *s", normalises=("*s",)), vjp=Vjp(_instance_norm_vjp)
    ),
    (STANDARD, "GroupNormalization"): Operator(axes=_group_norm_axes),
    (STANDARD, "MeanVarianceNormalization"): Operator(axes=_mean_variance_axes),
    (STANDARD, "LpNormalization"): Operator(axes=_lp_norm_axes, vjp=Vjp(_lp_norm_vjp, supports=with_settings(p=2))),
    (STANDARD, "LRN"): Operator(axes=_NEIGHBOURS, vjp=Vjp(_local_norm_vjp)),
    (STANDARD, "LayerNormalization"): LAYER_NORM,
    (STANDARD, "RMSNormalization"): RMS_NORM,
    (STANDARD, "SimplifiedLayerNormalization"): RMS_NORM,
    (MICROSOFT, "SimplifiedLayerNormalization"): RMS_NORM,
    (MICROSOFT, "SkipLayerNormalization"): SKIP_LAYER_NORM,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): SKIP_RMS_NORM,
    (MICROSOFT, "EmbedLayerNormalization"): Operator(axes=_EMBEDDING),
}
