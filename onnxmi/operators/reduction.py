"""Operators that reduce axes, or compare along one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from math import prod

import numpy as np

from onnxmi.axes.unify import TermId
from onnxmi.model import Node
from onnxmi.operators.context import AxisRule, RuleContext, Terms
from onnxmi.operators.operator import STANDARD, Key, Operator, every_output
from onnxmi.operators.positionwise import CarriedAxes, PositionContext
from onnxmi.operators.signature_rule import broadcast
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext, VjpRule
from onnxmi.typing import Array

# -- the axes of a softmax ---------------------------------------------------------------------------------------------


def softmax_axes(node: Node, rank: int, opset: int) -> tuple[int, ...]:
    """Return the axes that a Softmax, LogSoftmax or Hardmax runs over, not negative.

    Before opset 13 the default axis was 1, and everything from the axis on was flattened.
    """
    if opset < 13:
        return tuple(range(int(node.attributes.get("axis", 1)) % rank, rank))
    return (int(node.attributes.get("axis", -1)) % rank,)


# -- how axes are tied -------------------------------------------------------------------------------------------------


def _reduced_axes_of(ctx: RuleContext, operand: Terms) -> tuple[int, ...]:
    axes = ctx.axes(1)
    if not axes:
        axes = () if ctx.attribute("noop_with_empty_axes", 0) else tuple(range(len(operand)))
    return tuple(axis % len(operand) for axis in axes)


def _is_fed(ctx: RuleContext) -> bool:
    """Whether a caller says which axes; then all are frozen."""
    fed = len(ctx.node.inputs) > 1 and bool(ctx.node.inputs[1]) and ctx.value(1) is None
    if fed:
        ctx.freeze_all("reduces axes that are not known")
    return fed


def _unify_rest(ctx: RuleContext, operand: Terms, reduced: tuple[int, ...], out: Terms | None) -> None:
    if out is None:
        return
    keep = len(out) == len(operand)
    rest = [(axis, term) for axis, term in enumerate(operand) if axis not in reduced]
    targets = [out[axis] for axis, _ in rest] if keep else list(out)
    for (_, term), target in zip(rest, targets, strict=True):
        ctx.unify(term, target)


def _reducing(effect: Callable[[RuleContext, Terms, tuple[int, ...]], None]) -> AxisRule:
    """Make the rule of a reduction from what it does to the reduced axes: the others pass."""

    @wraps(effect)
    def rule(ctx: RuleContext) -> None:
        operand = ctx.operand(0)
        if operand is None or _is_fed(ctx):
            return
        reduced = _reduced_axes_of(ctx, operand)
        effect(ctx, operand, reduced)
        _unify_rest(ctx, operand, reduced, ctx.outs[0])

    return rule


@_reducing
def _reduce(ctx: RuleContext, operand: Terms, reduced: tuple[int, ...]) -> None:
    """Freeze the axes that are reduced, tie the others."""
    ctx.freeze([operand[axis] for axis in reduced], "reduces over it")


@_reducing
def _reduce_mean(ctx: RuleContext, _operand: Terms, reduced: tuple[int, ...]) -> None:
    """A mean of fewer channels is another mean: what is divided by it, or has it taken off, is renormalized."""
    ctx.normalize_over(reduced)


@_reducing
def _reduce_sum(ctx: RuleContext, _operand: Terms, reduced: tuple[int, ...]) -> None:
    """Summing is a contraction with ones: a channel that is zero adds nothing (nor to a sum of magnitudes)."""
    for axis in reduced:
        ctx.contract(0, axis)


def _softmax_axes(ctx: RuleContext) -> None:
    """Keeps the shape but mixes along one axis, before opset 13 along several."""
    operand = ctx.operand(0)
    if operand is not None:
        mixed = softmax_axes(ctx.node, len(operand), ctx.graph.opset)
        _mix_along(ctx, operand, [operand[axis] for axis in mixed])


def _cumsum_axes(ctx: RuleContext) -> None:
    """Keeps the shape but mixes along the axis that an operand states."""
    operand = ctx.operand(0)
    if operand is not None:
        axis = ctx.value(1)
        _mix_along(ctx, operand, operand if axis is None else [operand[int(axis.reshape(-1)[0])]])


def _mix_along(ctx: RuleContext, operand: Terms, mixed: Sequence[TermId]) -> None:
    ctx.freeze(mixed, "runs over it")
    for out in ctx.outs:
        broadcast(ctx, operand, out)


def _arg_reduce_axes(ctx: RuleContext) -> None:
    operand = ctx.operand(0)
    if operand is None:
        return
    axis = int(ctx.attribute("axis", 0)) % len(operand)
    ctx.freeze([operand[axis]], "compares along it")
    _unify_rest(ctx, operand, (axis,), ctx.outs[0])


# -- gradients ---------------------------------------------------------------------------------------------------------


def _axes_of(ctx: VjpContext) -> tuple[int, ...]:
    given = ctx.integers(1, "axes")
    if not given:
        return () if given is not None and ctx.get("noop_with_empty_axes", 0) else tuple(range(ctx.x.ndim))
    return tuple(axis % ctx.x.ndim for axis in given)


def _reduced_vjp(slope: Callable[[VjpContext, Array, tuple[int, ...]], Array]) -> VjpRule:
    """Of a reduction: `slope` is told the result as it would be with axes kept."""

    def rule(ctx: VjpContext) -> Gradients:
        axes = _axes_of(ctx)
        shape = [1 if axis in axes else size for axis, size in enumerate(ctx.x.shape)]
        spread = np.broadcast_to(ctx.g.reshape(shape), ctx.x.shape)
        return ctx.first_only(np.asarray(spread * slope(ctx, ctx.y.reshape(shape), axes), dtype=ctx.g.dtype))

    return rule


def equal_shares(ctx: VjpContext, result: Array, axes: tuple[int, ...]) -> Array:
    """Slope of a mean over axes."""
    return np.asarray(1.0 / max(prod(ctx.x.shape[axis] for axis in axes), 1))


def winner_shares(ctx: VjpContext, result: Array, axes: tuple[int, ...]) -> Array:
    """Slope of a maximum or minimum over axes: equal winners share it."""
    won = ctx.x == result
    return np.asarray(won / np.maximum(won.sum(axis=axes, keepdims=True), 1))


def _softmax_vjp(ctx: VjpContext) -> Gradients:
    axes = softmax_axes(ctx.node, ctx.x.ndim, ctx.opset)
    mean = (ctx.g * ctx.y).sum(axis=axes, keepdims=True)
    return ctx.first_only(ctx.y * (ctx.g - mean))


def _log_softmax_vjp(ctx: VjpContext) -> Gradients:
    axes = softmax_axes(ctx.node, ctx.x.ndim, ctx.opset)
    return ctx.first_only(ctx.g - np.exp(ctx.y) * ctx.g.sum(axis=axes, keepdims=True))


def _cumsum_vjp(ctx: VjpContext) -> Gradients:
    axis = int(np.reshape(ctx.values(ctx.node.inputs[1]), ()))
    backwards = ctx.g if ctx.get("reverse", 0) else np.flip(ctx.g, axis)
    summed = np.cumsum(backwards, axis=axis)
    summed = summed - backwards if ctx.get("exclusive", 0) else summed
    return ctx.first_only(summed if ctx.get("reverse", 0) else np.flip(summed, axis))


# -- positions ---------------------------------------------------------------------------------------------------------


def _reduction_positions(ctx: PositionContext) -> CarriedAxes | None:
    """Axes before all that differ, where the number of axes stays: what is reduced lies behind the axis."""
    before, after = ctx.shapes[ctx.node.inputs[0]], ctx.shapes[ctx.node.outputs[0]]
    same = len(before) == len(after) and before[: ctx.axis + 1] == after[: ctx.axis + 1]
    return ((0, ctx.axis),) if same else None


def _softmax_positions(ctx: PositionContext) -> CarriedAxes | None:
    """Axes before those that it runs over."""
    return ((0, ctx.axis),) if ctx.axis < softmax_axes(ctx.node, ctx.rank, ctx.opset)[0] else None


# -- records -----------------------------------------------------------------------------------------------------------


def _reduction(axes: AxisRule, vjp: VjpRule | None = None) -> Operator:
    return Operator(axes=axes, vjp=None if vjp is None else Vjp(vjp), positionwise=_reduction_positions)


_SUM_VJP = _reduced_vjp(lambda c, y, axes: np.ones(()))
_L2_VJP = _reduced_vjp(lambda c, y, axes: c.x / np.maximum(y, 1e-20))
_SQUARES_VJP = _reduced_vjp(lambda c, y, axes: 2.0 * c.x)
_EXTREME_VJP, _MEAN_VJP = _reduced_vjp(winner_shares), _reduced_vjp(equal_shares)
_MIXING = Operator(axes=_softmax_axes, positionwise=_softmax_positions)
_COMPARING = Operator(axes=_arg_reduce_axes, piecewise_constant=every_output)

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "ReduceMean"): _reduction(_reduce_mean, _MEAN_VJP),
    (STANDARD, "ReduceSum"): _reduction(_reduce_sum, _SUM_VJP),
    (STANDARD, "ReduceL1"): _reduction(_reduce_sum),
    (STANDARD, "ReduceL2"): _reduction(_reduce_sum, _L2_VJP),
    (STANDARD, "ReduceSumSquare"): _reduction(_reduce_sum, _SQUARES_VJP),
    (STANDARD, "ReduceLogSum"): _reduction(_reduce_sum),
    (STANDARD, "ReduceMax"): _reduction(_reduce, _EXTREME_VJP),
    (STANDARD, "ReduceMin"): _reduction(_reduce, _EXTREME_VJP),
    (STANDARD, "ReduceProd"): _reduction(_reduce),
    (STANDARD, "ReduceLogSumExp"): _reduction(_reduce),
    (STANDARD, "Softmax"): replace(_MIXING, vjp=Vjp(_softmax_vjp), cost_class="slow"),
    (STANDARD, "LogSoftmax"): replace(_MIXING, vjp=Vjp(_log_softmax_vjp)),
    (STANDARD, "Hardmax"): _MIXING,
    (STANDARD, "CumSum"): Operator(axes=_cumsum_axes, vjp=Vjp(_cumsum_vjp)),
    (STANDARD, "ArgMax"): _COMPARING,
    (STANDARD, "ArgMin"): _COMPARING,
}
