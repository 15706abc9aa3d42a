"""Operators that resample or rearrange the spatial axes.

Resize is linear along each axis, so its gradient goes through the transposed matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isclose

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.context import RuleContext, Terms
from onnxmi.operators.operator import STANDARD, Key, Operator, ResultSize
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext
from onnxmi.typing import Array

# -- how axes are tied -------------------------------------------------------------------------------------------------

_SAMPLED = {"*s": "samples positions of it", "*t": "samples positions of it"}


def _resize_axes(ctx: RuleContext) -> None:
    """Axes whose scale is exactly one pass, the others are resampled."""
    operand, out = ctx.operand(0), ctx.outs[0]
    if operand is None or out is None:
        return
    for axis, (term, result) in enumerate(zip(operand, out, strict=True)):
        if axis < 2 and ctx.size(term) == ctx.size(result) and len(out) > 2:
            ctx.unify(term, result)
        else:
            ctx.freeze([term, result], "resizes it")
    sizes = ctx.operand(3)
    if sizes and ctx.size(sizes[0]) == len(out):
        ctx.declare_sizes(3, out)
    elif sizes and ctx.size(sizes[0]):
        ctx.freeze(out[:2] if 1 in (ctx.attribute("axes") or ()) else (), "resizes it")


def _block_operands(ctx: RuleContext) -> tuple[Terms, Terms, int] | None:
    operand, out = ctx.operand(0), ctx.outs[0]
    if operand is None or out is None:
        return None
    return operand, out, int(ctx.attribute("blocksize", 1))


def _interleave(ctx: RuleContext, deep: Terms, flat: Terms, order: Sequence[int]) -> None:
    """Tie the channels with the blocks folded in to those without; space cannot be cut, nor can the blocks."""
    size = int(ctx.attribute("blocksize", 1))
    blocks = [ctx.solver.dim(size), ctx.solver.dim(size)]
    ctx.freeze([*blocks, *deep[2:], *flat[2:]], "moves blocks of it")
    factors = [flat[1], *blocks]
    ctx.unify(deep[0], flat[0])
    ctx.unify(deep[1], ctx.solver.product([factors[place] for place in order]))


def _depth_to_space_axes(ctx: RuleContext) -> None:
    operands = _block_operands(ctx)
    if operands is not None:
        by_columns = ctx.attribute("mode", "DCR") == "DCR"
        _interleave(ctx, operands[0], operands[1], (1, 2, 0) if by_columns else (0, 1, 2))


def _space_to_depth_axes(ctx: RuleContext) -> None:
    operands = _block_operands(ctx)
    if operands is not None:
        _interleave(ctx, operands[1], operands[0], (1, 2, 0))


def _col2im_axes(ctx: RuleContext) -> None:
    """Col2Im: the places in a block are folded into the channels."""
    operand, out, block = ctx.operand(0), ctx.outs[0], ctx.value(2)
    if operand is None or out is None or block is None:
        ctx.freeze_all("folds blocks that are not known")
        return
    inside = ctx.solver.dim(int(block.prod()))
    ctx.freeze([inside, operand[2], *out[2:]], "folds blocks of it")
    ctx.unify(operand[0], out[0])
    ctx.unify(operand[1], ctx.solver.product([out[1], inside]))


# -- gradient of Resize ------------------------------------------------------------------------------------------------

Coordinates = Callable[[Array, int, int, float], Array]


def _half_pixel(place: Array, before: int, after: int, scale: float) -> Array:
    return np.asarray((place + 0.5) / scale - 0.5)


def _pytorch(place: Array, before: int, after: int, scale: float) -> Array:
    return _half_pixel(place, before, after, scale) if after > 1 else np.zeros(place.shape)


def _aligned(place: Array, before: int, after: int, scale: float) -> Array:
    return np.asarray(place * (before - 1) / (after - 1)) if after > 1 else np.zeros(place.shape)


def _asymmetric(place: Array, before: int, after: int, scale: float) -> Array:
    return np.asarray(place / scale)


COORDINATES: Mapping[str, Coordinates] = {
    "align_corners": _aligned,
    "asymmetric": _asymmetric,
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch,
}
"""Mode -> where an element of the result lies in the operand, from its place, both sizes and the scale."""

NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
}


def _is_known(node: Node) -> bool:
    """Whether the gradient of a Resize is known: to the nearest element, or linear without antialiasing."""
    settings = node.attributes
    return (
        settings.get("mode", "nearest") in ("nearest", "linear")
        and settings.get("coordinate_transformation_mode", "half_pixel") in COORDINATES
        and settings.get("nearest_mode", "round_prefer_floor") in NEAREST
        and not settings.get("antialias", 0)
        and settings.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    )


def _resize_vjp(ctx: VjpContext) -> Gradients:
    """Back through each axis that was resized."""
    gradient = ctx.g
    for axis, (before, after) in enumerate(zip(ctx.x.shape, ctx.y.shape, strict=True)):
        if before != after or not isclose(_scale(ctx, axis), 1.0):
            matrix = _matrix(ctx, before, after, _scale(ctx, axis)).astype(gradient.dtype)
            gradient = np.moveaxis(np.moveaxis(gradient, axis, -1) @ matrix, -1, axis)
    return ctx.first_only(gradient)


def _scale(ctx: VjpContext, axis: int) -> float:
    """The scale that was asked for, or that of the sizes."""
    scales = ctx.operand(2 if ctx.opset >= 11 else 1)
    axes = [each % ctx.x.ndim for each in ctx.get("axes", range(ctx.x.ndim))]
    if scales is not None and scales.size and axis in axes:
        return float(scales[axes.index(axis)])
    return float(ctx.y.shape[axis] / ctx.x.shape[axis])


def _matrix(ctx: VjpContext, before: int, after: int, scale: float) -> Array:
    """(after, before): what each element of the result is made of."""
    mode = ctx.get("coordinate_transformation_mode", "half_pixel" if ctx.opset >= 11 else "asymmetric")
    place = COORDINATES[mode](np.arange(after, dtype=np.float64), before, after, scale)
    gradient = np.zeros((after, before))
    rows = np.arange(after)
    if ctx.get("mode", "nearest") == "nearest":
        rounding = NEAREST[ctx.get("nearest_mode", "round_prefer_floor" if ctx.opset >= 11 else "floor")]
        gradient[rows, np.clip(rounding(place), 0, before - 1).astype(int)] = 1.0
        return gradient
    low = np.floor(place)
    for corner, share in ((low, 1.0 - (place - low)), (low + 1, place - low)):
        np.add.at(gradient, (rows, np.clip(corner, 0, before - 1).astype(int)), share)
    return gradient


# -- gradients of blocks -----------------------------------------------------------------------------------------------


def _block_axes(shape: Sequence[int], side: int, *, columns_first: bool) -> tuple[list[int], list[int]]:
    """Shape and order of axes that take (N, C, H, W) apart into blocks of space, as DepthToSpace puts them together."""
    batch, depth, height, width = shape
    left = depth // side**2
    if columns_first:
        return [batch, left, side, side, height, width], [0, 1, 4, 2, 5, 3]
    return [batch, side, side, left, height, width], [0, 3, 4, 1, 5, 2]


def _depth_to_space_vjp(ctx: VjpContext) -> Gradients:
    apart, order = _block_axes(
        ctx.x.shape, ctx.node.attributes["blocksize"], columns_first=ctx.get("mode", "DCR") == "CRD"
    )
    moved = ctx.g.reshape([apart[axis] for axis in order]).transpose(np.argsort(order))
    return ctx.first_only(moved.reshape(ctx.x.shape))


def _space_to_depth_vjp(ctx: VjpContext) -> Gradients:
    apart, order = _block_axes(ctx.y.shape, ctx.node.attributes["blocksize"], columns_first=False)
    return ctx.first_only(ctx.g.reshape(apart).transpose(order).reshape(ctx.x.shape))


# -- records -----------------------------------------------------------------------------------------------------------


def _sampled(signature: str) -> Operator:
    return Operator(axes=SignatureRule(signature, freezes=_SAMPLED))


OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "Resize"): Operator(
        axes=_resize_axes, vjp=Vjp(_resize_vjp, supports=_is_known), result_size=ResultSize(stated=(2, 3))
    ),
    (STANDARD, "Upsample"): Operator(axes=_resize_axes, result_size=ResultSize(stated=(1,))),
    (STANDARD, "DepthToSpace"): Operator(axes=_depth_to_space_axes, vjp=Vjp(_depth_to_space_vjp)),
    (STANDARD, "SpaceToDepth"): Operator(axes=_space_to_depth_axes, vjp=Vjp(_space_to_depth_vjp)),
    (STANDARD, "Col2Im"): Operator(axes=_col2im_axes, result_size=ResultSize(stated=(1,))),
    (STANDARD, "GridSample"): _sampled("n c *s, n *t _ -> n c *t"),
    (STANDARD, "RoiAlign"): _sampled("n c *s, r _, r -> r c *t"),
    (STANDARD, "MaxRoiPool"): _sampled("n c *s, r _ -> r c *t"),
    (STANDARD, "MaxUnpool"): replace(_sampled("n c *s, n c *s, _? -> n c *t"), result_size=ResultSize(stated=(2,))),
    (STANDARD, "AffineGrid"): Operator(result_size=ResultSize(stated=(1,))),
}
