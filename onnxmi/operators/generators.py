"""Operators that make a tensor from settings alone."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.operators.context import RuleContext
from onnxmi.operators.operator import STANDARD, Key, Operator, ResultSize, every_output
from onnxmi.operators.signature_rule import broadcast

# -- how axes are tied -------------------------------------------------------------------------------------------------


def _filled_axes(ctx: RuleContext) -> None:
    """The shape is stated by an operand, and every element is alike."""
    out = ctx.outs[0]
    if out is not None and len(out):
        ctx.declare_sizes(0, out)


def _counted_axes(ctx: RuleContext) -> None:
    """As long as some value says: what the value means is not known."""
    ctx.freeze(ctx.outs[0] or (), "makes as many positions as a value says")


def _random_axes(ctx: RuleContext) -> None:
    """Random numbers: cutting would change which are drawn."""
    for operand in [*ctx.ins, *ctx.outs]:
        ctx.freeze(operand or (), "draws random numbers for it")


def _random_like_axes(ctx: RuleContext) -> None:
    broadcast(ctx, ctx.operand(0), ctx.outs[0])
    _random_axes(ctx)


# -- records -----------------------------------------------------------------------------------------------------------

_RANDOM = Operator(axes=_random_axes)
_RANDOM_LIKE = Operator(axes=_random_like_axes)

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "ConstantOfShape"): Operator(
        axes=_filled_axes, piecewise_constant=every_output, result_size=ResultSize(stated=(0,)), fills=True
    ),
    (STANDARD, "Range"): Operator(
        axes=_counted_axes, piecewise_constant=every_output, result_size=ResultSize(stated=(0, 1, 2))
    ),
    (STANDARD, "NonZero"): Operator(
        axes=_counted_axes, piecewise_constant=every_output, result_size=ResultSize(counted=True)
    ),
    **{(STANDARD, op): _RANDOM for op in ("RandomNormal", "RandomUniform")},
    **{(STANDARD, op): _RANDOM_LIKE for op in ("RandomNormalLike", "RandomUniformLike", "Bernoulli")},
}
