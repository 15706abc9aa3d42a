"""Operators that take a window of an axis, or put something beside it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxmi.axes.unify import TermId
from onnxmi.operators.context import RuleContext, Terms
from onnxmi.operators.operator import MICROSOFT, STANDARD, Key, Operator, ResultSize
from onnxmi.operators.signature_rule import broadcast
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext
from onnxmi.typing import Array

# -- how axes are tied -------------------------------------------------------------------------------------------------

AxisWindow = tuple[int, int, int]  # start, end and step as stated


def _slice_axes(ctx: RuleContext) -> None:
    """A window of step one splits its axis in three; any other window freezes it."""
    operand, out = ctx.operand(0), ctx.outs[0]
    if operand is None or out is None:
        return
    windows = _windows(ctx, operand)
    if windows is None:
        ctx.freeze_all("takes a window that is not known")
        return
    bounds: dict[int, tuple[TermId, TermId]] = {}
    for axis, (term, result) in enumerate(zip(operand, out, strict=True)):
        if axis in windows:
            bounds[axis] = _take(ctx, term, result, windows[axis])
        else:
            ctx.unify(term, result)
    _state_bounds(ctx, windows, bounds)


def _windows(ctx: RuleContext, operand: Terms) -> dict[int, AxisWindow] | None:
    """Axis -> window, in the order in which they are stated; None where they depend on the data."""
    starts, ends = ctx.axes(1, "starts"), ctx.axes(2, "ends")
    if starts is None or ends is None or not all(ctx.is_sized(place) for place in (1, 2, 3, 4)):
        return None
    axes = ctx.axes(3)
    steps = ctx.axes(4, "steps") or (1,) * len(starts)
    stated = zip(axes if axes is not None else range(len(starts)), starts, ends, steps, strict=True)
    return {axis % len(operand): (start, end, step) for axis, start, end, step in stated}


def _take(ctx: RuleContext, term: TermId, result: TermId, window: AxisWindow) -> tuple[TermId, TermId]:
    """Tie one axis to its window; return the terms whose sizes the stated start and end are."""
    size, taken = ctx.size(term), ctx.size(result)
    start, end, step = window
    if step != 1:
        ctx.freeze([term, result], "takes every other position of it, or reorders it")
        return term, term
    first = min(max(start + size if start < 0 else start, 0), size)
    before, after = ctx.solver.dim(first), ctx.solver.dim(size - first - taken)
    total = ctx.solver.sum
    if size == taken:
        before, after = ctx.solver.dim(0), ctx.solver.dim(0)
    ctx.unify(term, total([before, result, after]))
    return (
        before if start >= 0 else total([result, after]),
        total([before, result]) if end >= 0 else after,
    )


def _state_bounds(ctx: RuleContext, windows: dict[int, AxisWindow], bounds: dict[int, tuple[TermId, TermId]]) -> None:
    starts, ends = [bounds[axis][0] for axis in windows], [bounds[axis][1] for axis in windows]
    if len(ctx.node.inputs) > 1:
        ctx.declare_sizes(1, starts)
        ctx.declare_sizes(2, ends)
        return
    for entry, (start, end, _) in enumerate(windows.values()):
        for attribute, stated, term in (("starts", start, starts[entry]), ("ends", end, ends[entry])):
            if stated < 0:
                ctx.freeze([term], "counts from the end of it")
            elif stated == ctx.size(term):
                ctx.declare_size(attribute, term, entry)


def _pad_axes(ctx: RuleContext) -> None:
    """Padding with a constant puts channels of its own beside an axis; any other kind freezes it."""
    operand, out = ctx.operand(0), ctx.outs[0]
    if operand is None or out is None:
        return
    pads, axes = ctx.axes(1, "pads"), ctx.axes(3)
    if pads is None:
        ctx.freeze_all("pads by amounts that are not known")
        return
    where = [axis % len(operand) for axis in (axes if axes is not None else range(len(operand)))]
    amounts = {axis: (pads[i], pads[i + len(where)]) for i, axis in enumerate(where)}
    constant = ctx.attribute("mode", "constant") == "constant" and ctx.is_sized(1) and ctx.is_sized(3)
    for axis, (term, result) in enumerate(zip(operand, out, strict=True)):
        before, after = amounts.get(axis, (0, 0))
        if (before, after) == (0, 0):
            ctx.unify(term, result)
        elif constant and min(before, after) >= 0:
            beside = [ctx.solver.dim(before), ctx.solver.dim(after)]
            ctx.unify(result, ctx.solver.sum([beside[0], term, beside[1]]))
            ctx.freeze(beside, "pads it")
        else:
            ctx.freeze([term, result], "pads it")


def _tile_axes(ctx: RuleContext) -> None:
    """Repeating an axis puts an outer factor, the number of repetitions, around it."""
    operand, out = ctx.operand(0), ctx.outs[0]
    if operand is None or out is None:
        return
    for term, result in zip(operand, out, strict=True):
        size = ctx.size(term)
        if size == ctx.size(result):
            ctx.unify(term, result)
        elif size and ctx.size(result) % size == 0:
            times = ctx.solver.dim(ctx.size(result) // size)
            ctx.freeze([times], "repeats it")
            ctx.unify(result, ctx.solver.product([times, term]))


def _reverse_axes(ctx: RuleContext) -> None:
    """Reverses the start of each sample along the time axis; the other axes pass."""
    operand = ctx.operand(0)
    if operand is None:
        return
    ctx.freeze([operand[axis] for axis in _sequence_axes(ctx)], "reverses along it")
    broadcast(ctx, operand, ctx.outs[0])


def _sequence_axes(ctx: RuleContext | VjpContext) -> tuple[int, int]:
    """Axes of time and samples."""
    read = ctx.attribute if isinstance(ctx, RuleContext) else ctx.get
    return int(read("time_axis", 0)), int(read("batch_axis", 1))


# -- gradients ---------------------------------------------------------------------------------------------------------


def _slice_vjp(ctx: VjpContext) -> Gradients:
    gradient = np.zeros(ctx.x.shape, ctx.g.dtype)
    gradient[_cuts(ctx)] = ctx.g
    return ctx.first_only(gradient)


def _cuts(ctx: VjpContext) -> tuple[slice, ...]:
    starts, ends = (ctx.integers(place, name) or () for place, name in ((1, "starts"), (2, "ends")))
    axes = ctx.integers(3, "axes") or tuple(range(len(starts)))
    steps = ctx.integers(4, "steps") or (1,) * len(starts)
    cuts = [slice(None)] * ctx.x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        beyond = step < 0 and end < -ctx.x.shape[axis]  # all down to the first, which Python has no number for
        cuts[axis] = slice(start, None if beyond else end, step)
    return tuple(cuts)


def _pad_vjp(ctx: VjpContext) -> Gradients:
    """Constants that were put around are dropped; copies of what is inside add up."""
    pads, mode = ctx.integers(1, "pads") or (), ctx.get("mode", "constant")
    axes = ctx.integers(3, "axes") or tuple(range(ctx.x.ndim))
    before = dict(zip(axes, pads, strict=False))
    gradient = ctx.g
    for axis, size in enumerate(ctx.x.shape):
        first = before.get(axis, 0)
        if mode != "constant":
            gradient = _added_up(gradient, axis, first, size, mode)
        elif first < 0 or gradient.shape[axis] < first + size:  # cropped: what was left out gets nothing
            gradient = _uncropped(gradient, axis, first, size)
        else:
            gradient = np.take(gradient, np.arange(first, first + size), axis=axis)
    return ctx.first_only(gradient)


def _added_up(upper: Array, axis: int, first: int, size: int, mode: str) -> Array:
    sources = np.pad(np.arange(size), (first, upper.shape[axis] - first - size), mode)  # type: ignore[call-overload]
    gradient = np.zeros((*upper.shape[:axis], size, *upper.shape[axis + 1 :]), upper.dtype)
    np.add.at(np.moveaxis(gradient, axis, 0), sources, np.moveaxis(upper, axis, 0))
    return gradient


def _uncropped(upper: Array, axis: int, first: int, size: int) -> Array:
    places = np.arange(size) + first
    inside = (places >= 0) & (places < upper.shape[axis])
    gradient = np.zeros((*upper.shape[:axis], size, *upper.shape[axis + 1 :]), upper.dtype)
    target = [slice(None)] * axis
    gradient[(*target, inside)] = np.take(upper, places[inside], axis=axis)
    return gradient


def _tile_vjp(ctx: VjpContext) -> Gradients:
    repeats = ctx.integers(1, "repeats") or ()
    pairs = [size for pair in zip(repeats, ctx.x.shape, strict=True) for size in pair]
    return ctx.first_only(ctx.g.reshape(pairs).sum(axis=tuple(range(0, len(pairs), 2))))


def _reverse_vjp(ctx: VjpContext) -> Gradients:
    """Reversing again puts each gradient where its entry came from."""
    time, batch = _sequence_axes(ctx)
    rows = np.moveaxis(ctx.g, (batch, time), (0, 1)).copy()
    for row, length in zip(rows, ctx.values(ctx.node.inputs[1]), strict=True):
        row[:length] = row[:length][::-1].copy()
    return ctx.first_only(np.moveaxis(rows, (0, 1), (batch, time)))


# -- records -----------------------------------------------------------------------------------------------------------

_STATED = ResultSize(stated=(1,))

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "Slice"): Operator(axes=_slice_axes, vjp=Vjp(_slice_vjp), result_size=ResultSize(stated=(1, 2, 4))),
    (STANDARD, "Pad"): Operator(axes=_pad_axes, vjp=Vjp(_pad_vjp), result_size=_STATED),
    (STANDARD, "Tile"): Operator(axes=_tile_axes, vjp=Vjp(_tile_vjp), result_size=_STATED),
    (STANDARD, "ReverseSequence"): Operator(axes=_reverse_axes, vjp=Vjp(_reverse_vjp)),
    (STANDARD, "CenterCropPad"): Operator(result_size=_STATED),
    (MICROSOFT, "Pad"): Operator(result_size=_STATED),
}
