"""Operators that look positions up, or write to positions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxmi.axes.unify import TermId
from onnxmi.model import Node
from onnxmi.operators.context import RuleContext, Terms
from onnxmi.operators.operator import MICROSOFT, STANDARD, Key, Operator, ResultSize, every_output, later_outputs
from onnxmi.operators.signature_rule import broadcast
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext

# -- how axes are tied -------------------------------------------------------------------------------------------------

_LOOKS_UP = "looks positions up in it"


def _gather_axes(ctx: RuleContext) -> None:
    """Looking rows up: the axis that is indexed cannot be cut, the others pass."""
    data, indices, out = ctx.operand(0), ctx.operand(1), ctx.outs[0]
    if data is None or indices is None or out is None:
        return
    axis = int(ctx.attribute("axis", 0)) % len(data)
    ctx.freeze([data[axis]], _LOOKS_UP)
    ctx.unify_axes((*data[:axis], *indices, *data[axis + 1 :]), out)


def _gather_elements_axes(ctx: RuleContext) -> None:
    """Data, indices (and updates) go side by side on every axis but the one that is indexed."""
    data = ctx.operand(0)
    if data is None:
        return
    axis = int(ctx.attribute("axis", 0)) % len(data)
    ctx.freeze([data[axis]], _LOOKS_UP)
    for operand in (*ctx.ins[1:], *ctx.outs):
        for place, (term, other) in enumerate(zip(data, operand or (), strict=True)):
            _side_by_side(ctx, term, other, indexed=place == axis)


def _side_by_side(ctx: RuleContext, term: TermId, other: TermId, *, indexed: bool) -> None:
    if indexed:
        ctx.freeze([other], _LOOKS_UP)
    elif ctx.size(term) == ctx.size(other):
        ctx.unify(term, other)
    else:
        ctx.freeze([term, other], "takes a part of it")


def _gather_nd_axes(ctx: RuleContext) -> None:
    data, indices, out = ctx.operand(0), ctx.operand(1), ctx.outs[0]
    if data is None or indices is None or out is None:
        return
    batch = int(ctx.attribute("batch_dims", 0))
    depth = ctx.size(indices[-1])
    ctx.freeze([indices[-1], *data[batch : batch + depth]], _LOOKS_UP)
    for term, index in zip(data[:batch], indices[:batch], strict=True):
        ctx.unify(term, index)
    ctx.unify_axes((*indices[:-1], *data[batch + depth :]), out)


def _scatter_nd_axes(ctx: RuleContext) -> None:
    data, indices, updates = ctx.operand(0), ctx.operand(1), ctx.operand(2)
    if data is None or indices is None or updates is None:
        return
    depth = ctx.size(indices[-1])
    ctx.freeze([indices[-1], *data[:depth]], "writes to positions of it")
    ctx.unify_axes(data, ctx.outs[0])
    ctx.unify_axes((*indices[:-1], *data[depth:]), updates)


def _one_hot_axes(ctx: RuleContext) -> None:
    indices, out = ctx.operand(0), ctx.outs[0]
    if indices is None or out is None:
        return
    axis = int(ctx.attribute("axis", -1)) % len(out)
    ctx.freeze([out[axis]], "counts positions along it")
    ctx.unify_axes(indices, _without(out, axis))


def _without(terms: Terms, axis: int) -> Terms:
    return (*terms[:axis], *terms[axis + 1 :])


def _top_k_axes(ctx: RuleContext) -> None:
    operand = ctx.operand(0)
    if operand is None:
        return
    axis = int(ctx.attribute("axis", -1)) % len(operand)
    for out in ctx.outs:
        if out is not None:
            ctx.freeze([operand[axis], out[axis]], "sorts along it")
            ctx.unify_axes(_without(operand, axis), _without(out, axis))


def _trilu_axes(ctx: RuleContext) -> None:
    operand = ctx.operand(0)
    if operand is None:
        return
    ctx.freeze(operand[-2:], "takes a triangle of it")
    broadcast(ctx, operand, ctx.outs[0])


# -- gradients ---------------------------------------------------------------------------------------------------------


def _gather_vjp(ctx: VjpContext) -> Gradients:
    axis, places = ctx.get("axis", 0), ctx.values(ctx.node.inputs[1])
    gradient = np.zeros(ctx.x.shape, ctx.g.dtype)
    drawn = np.moveaxis(ctx.g, range(axis % ctx.x.ndim, axis % ctx.x.ndim + places.ndim), range(places.ndim))
    np.add.at(np.moveaxis(gradient, axis, 0), places, drawn)
    return ctx.first_only(gradient)


def _gather_elements_vjp(ctx: VjpContext) -> Gradients:
    axis, places = ctx.get("axis", 0), ctx.values(ctx.node.inputs[1])
    gradient = np.zeros(ctx.x.shape, ctx.g.dtype)
    index = np.indices(places.shape, sparse=True)
    axis %= places.ndim
    np.add.at(gradient, (*index[:axis], places, *index[axis + 1 :]), ctx.g)
    return ctx.first_only(gradient)


def _top_k_vjp(ctx: VjpContext) -> Gradients:
    """Of the largest values, by the places that they come from, which are the second output."""
    gradient = np.zeros(ctx.x.shape, ctx.g.dtype)
    np.put_along_axis(gradient, ctx.values(ctx.node.outputs[1]), ctx.g, axis=ctx.get("axis", -1))
    return ctx.first_only(gradient)


def _scatter_elements_vjp(ctx: VjpContext) -> Gradients:
    axis, places = ctx.get("axis", 0), ctx.values(ctx.node.inputs[1])
    kept = ctx.g.copy()
    if ctx.get("reduction", "none") == "none":
        np.put_along_axis(kept, places, 0.0, axis=axis)
    return [kept, None, np.take_along_axis(ctx.g, places, axis=axis)]


def _scatter_nd_vjp(ctx: VjpContext) -> Gradients:
    places = tuple(np.moveaxis(ctx.values(ctx.node.inputs[1]), -1, 0))
    kept = ctx.g.copy()
    if ctx.get("reduction", "none") == "none":
        kept[places] = 0.0
    return [kept, None, ctx.g[places]]


def _gather_nd_vjp(ctx: VjpContext) -> Gradients:
    shared, places = ctx.get("batch_dims", 0), ctx.values(ctx.node.inputs[1])
    gradient = np.zeros(ctx.x.shape, ctx.g.dtype)
    spread = places.ndim - 1 - shared
    batch = [
        np.arange(size).reshape([-1 if axis == own else 1 for own in range(shared)] + [1] * spread)
        for axis, size in enumerate(ctx.x.shape[:shared])
    ]
    np.add.at(gradient, (*batch, *np.moveaxis(places, -1, 0)), ctx.g)
    return ctx.first_only(gradient)


def _trilu_vjp(ctx: VjpContext) -> Gradients:
    offset = ctx.operand(1)
    keep = np.triu if ctx.get("upper", 1) else np.tril
    return ctx.first_only(keep(ctx.g, 0 if offset is None else int(np.reshape(offset, ()))))


def _replaces_or_adds(node: Node) -> bool:
    return node.attributes.get("reduction", "none") in ("none", "add")


# -- records -----------------------------------------------------------------------------------------------------------

_WRITTEN = frozenset({0, 2})  # the data and the updates

_BY_FIRST = ResultSize(by_first=True)
_COUNTED = Operator(result_size=ResultSize(counted=True))

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "Gather"): Operator(axes=_gather_axes, vjp=Vjp(_gather_vjp), gathers=True),
    (STANDARD, "GatherElements"): Operator(axes=_gather_elements_axes, vjp=Vjp(_gather_elements_vjp)),
    (STANDARD, "GatherND"): Operator(axes=_gather_nd_axes, vjp=Vjp(_gather_nd_vjp)),
    (STANDARD, "Scatter"): Operator(axes=_gather_elements_axes, result_size=_BY_FIRST),
    (STANDARD, "ScatterElements"): Operator(
        axes=_gather_elements_axes,
        vjp=Vjp(_scatter_elements_vjp, _WRITTEN, supports=_replaces_or_adds),
        result_size=_BY_FIRST,
    ),
    (STANDARD, "ScatterND"): Operator(
        axes=_scatter_nd_axes,
        vjp=Vjp(_scatter_nd_vjp, _WRITTEN, supports=_replaces_or_adds),
        result_size=_BY_FIRST,
    ),
    (STANDARD, "OneHot"): Operator(
        axes=_one_hot_axes, piecewise_constant=every_output, result_size=ResultSize(stated=(1,))
    ),
    (STANDARD, "TopK"): Operator(
        axes=_top_k_axes,
        vjp=Vjp(_top_k_vjp),
        piecewise_constant=later_outputs,
        result_size=ResultSize(stated=(1,)),
    ),
    (STANDARD, "TensorScatter"): Operator(result_size=_BY_FIRST),
    **{(STANDARD, op): _COUNTED for op in ("NonMaxSuppression", "Unique", "Compress", "StringSplit")},
    (MICROSOFT, "Unique"): _COUNTED,
    (STANDARD, "Trilu"): Operator(axes=_trilu_axes, vjp=Vjp(_trilu_vjp)),
}
