"""Operators that move, join, take apart or reinterpret axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxmi.axes.unify import TermId
from onnxmi.operators.context import RuleContext, Terms
from onnxmi.operators.operator import STANDARD, Key, Operator, ResultSize, every_output
from onnxmi.operators.positionwise import CarriedAxes, PositionContext
from onnxmi.operators.signature_rule import broadcast
from onnxmi.operators.vjp import ALL_OPERANDS, Gradients, Vjp, VjpContext, sum_to_shape

# -- how axes are tied -------------------------------------------------------------------------------------------------


def reinterpret(ctx: RuleContext, source: Terms | None, target: Terms | None) -> None:
    """Tie two shapes of the same row-major data: the shortest runs of axes with equal products are equal products."""
    if source is None or target is None:
        return
    left = [t for t in source if ctx.size(t) != 1]
    right = [t for t in target if ctx.size(t) != 1]
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        size_a, size_b = ctx.size(a[0]), ctx.size(b[0])
        while size_a != size_b and (left if size_a < size_b else right):
            if size_a < size_b:
                a.append(left.pop(0))
                size_a *= ctx.size(a[-1])
            else:
                b.append(right.pop(0))
                size_b *= ctx.size(b[-1])
        ctx.unify(ctx.solver.product(a), ctx.solver.product(b))


def _reshape_axes(ctx: RuleContext) -> None:
    target = ctx.outs[0]
    reinterpret(ctx, ctx.operand(0), target)
    if target is not None and len(ctx.node.inputs) > 1:
        ctx.declare_sizes(1, target)
    elif target is not None:  # before opset 5 the shape is an attribute
        for entry, term in enumerate(target):
            ctx.declare_size("shape", term, entry)


def _reinterpret_axes(ctx: RuleContext) -> None:
    """The same data in another shape, which no operand states."""
    reinterpret(ctx, ctx.operand(0), ctx.outs[0])


def _transpose_axes(ctx: RuleContext) -> None:
    operand, out = ctx.operand(0), ctx.outs[0]
    if operand is None or out is None:
        return
    order = ctx.attribute("perm", tuple(reversed(range(len(operand)))))
    for axis, source in enumerate(order):
        ctx.unify(out[axis], operand[source])


def _concat_axes(ctx: RuleContext) -> None:
    concatenate(ctx, ctx.ins)


def concatenate(ctx: RuleContext, values: Sequence[Terms | None]) -> None:
    """Tie the result to the values that are joined along `axis`; nothing where any of them has no known shape."""
    out = ctx.outs[0]
    operands = [value for value in values if value is not None]
    if out is None or len(operands) < len(values):
        return
    axis = int(ctx.attribute("axis", 1)) % len(out)
    for position, term in enumerate(out):
        if position == axis:
            ctx.unify(term, ctx.solver.sum([operand[axis] for operand in operands]))
            continue
        for operand in operands:
            ctx.unify(term, operand[position])


def _split_axes(ctx: RuleContext) -> None:
    operand = ctx.operand(0)
    if operand is None or any(out is None for out in ctx.outs):
        return
    axis = int(ctx.attribute("axis", 0)) % len(operand)
    outs = [out for out in ctx.outs if out is not None]
    parts = [out[axis] for out in outs]
    ctx.unify(operand[axis], ctx.solver.sum(parts))
    for out in outs:
        for position, term in enumerate(out):
            if position != axis:
                ctx.unify(term, operand[position])
    _split_sizes(ctx, parts)


def _split_sizes(ctx: RuleContext, parts: list[TermId]) -> None:
    if ctx.operand(1) is not None:
        ctx.declare_sizes(1, parts)
    elif ctx.attribute("split") is not None:
        for entry, part in enumerate(parts):
            ctx.declare_size("split", part, entry)
    else:  # sizes are not stated but divided evenly: all parts have to keep the same number
        for part in parts[1:]:
            ctx.unify(parts[0], part)


def _expand_axes(ctx: RuleContext) -> None:
    broadcast(ctx, ctx.operand(0), ctx.outs[0])
    out, stated = ctx.outs[0], ctx.operand(1)
    if out is not None and stated is not None:
        ctx.declare_sizes(1, out[len(out) - ctx.size(stated[0]) :])


def _shape_axes(ctx: RuleContext) -> None:
    """As long as the input has axes, none of which can go."""
    ctx.freeze(ctx.outs[0] or (), "states a size in each entry of it")
    ctx.declare_shape_reader()


def _size_axes(ctx: RuleContext) -> None:
    ctx.freeze(ctx.operand(0) or (), "counts its elements")


def _constant_axes(ctx: RuleContext) -> None:
    """A stored tensor: its axes are free."""


# -- gradients ---------------------------------------------------------------------------------------------------------


def _reshape_vjp(ctx: VjpContext) -> Gradients:
    return ctx.first_only(ctx.g.reshape(ctx.x.shape))


def _transpose_vjp(ctx: VjpContext) -> Gradients:
    order = ctx.get("perm", tuple(reversed(range(ctx.x.ndim))))
    return ctx.first_only(ctx.g.transpose(np.argsort(order)))


def _expand_vjp(ctx: VjpContext) -> Gradients:
    return ctx.first_only(sum_to_shape(ctx.g, ctx.x.shape))


def _split_vjp(ctx: VjpContext) -> Gradients:
    axis = ctx.get("axis", 0)
    parts = [
        np.zeros(ctx.values(name).shape, ctx.x.dtype) if part is None else part
        for name, part in zip(ctx.node.outputs, ctx.output_gradients, strict=True)
    ]
    return ctx.first_only(np.concatenate(parts, axis=axis))


def _concat_vjp(ctx: VjpContext) -> Gradients:
    axis = ctx.node.attributes["axis"]
    sizes = [ctx.values(name).shape[axis] for name in ctx.node.inputs]
    return np.split(ctx.g, np.cumsum(sizes)[:-1], axis=axis)


# -- positions ---------------------------------------------------------------------------------------------------------


def _transpose_positions(ctx: PositionContext) -> CarriedAxes | None:
    order = ctx.node.attributes.get("perm") or tuple(reversed(range(len(ctx.shapes[ctx.node.inputs[0]]))))
    return ((0, int(order[ctx.axis])),)


# -- records -----------------------------------------------------------------------------------------------------------

_STATED = ResultSize(stated=(1,))
_REINTERPRETED = Operator(axes=_reinterpret_axes, vjp=Vjp(_reshape_vjp))

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "Reshape"): Operator(axes=_reshape_axes, vjp=Vjp(_reshape_vjp), result_size=_STATED),
    **{(STANDARD, op): _REINTERPRETED for op in ("Flatten", "Squeeze", "Unsqueeze")},
    (STANDARD, "Transpose"): Operator(axes=_transpose_axes, vjp=Vjp(_transpose_vjp), positionwise=_transpose_positions),
    (STANDARD, "Concat"): Operator(axes=_concat_axes, vjp=Vjp(_concat_vjp, ALL_OPERANDS)),
    (STANDARD, "Split"): Operator(axes=_split_axes, vjp=Vjp(_split_vjp, all_outputs=True), result_size=_STATED),
    (STANDARD, "Expand"): Operator(axes=_expand_axes, vjp=Vjp(_expand_vjp), result_size=_STATED),
    (STANDARD, "Shape"): Operator(axes=_shape_axes, piecewise_constant=every_output, reads_shape=True),
    (STANDARD, "Size"): Operator(axes=_size_axes, piecewise_constant=every_output, reads_shape=True),
    (STANDARD, "Constant"): Operator(axes=_constant_axes),
}
