"""Multiply-accumulates of attention as one operator."""

from __future__ import annotations

from collections.abc import Iterator

from onnxmi.operators.macs import RESULT, Axis, MacContext, Work


def attention_macs(ctx: MacContext, past: int) -> Iterator[Work]:
    """Scores of all queries with all keys, and the values weighted by them; masks and windows save nothing."""
    keys = _attended_positions(ctx, 0 if ctx.find(1) is None else 1, past)
    yield ctx.work(_queries(ctx), keys)
    yield ctx.work(ctx.axes(RESULT), keys)


def _queries(ctx: MacContext) -> tuple[Axis, ...]:
    """Axes of the queries, also where keys and values are packed beside them."""
    axes = ctx.axes(0)
    if len(axes) == 5:  # (batch, positions, heads, 3, channels)
        return (*axes[:3], axes[4])
    if ctx.find(1) is not None or not ctx.integer("kv_num_heads"):
        return axes
    heads, both = ctx.integer("num_heads"), 2 * ctx.integer("kv_num_heads")
    return (*axes[:2], Axis(0, 2, (0, ctx.shape(0)[2] // (heads + both) * heads)))


def packed_macs(ctx: MacContext, past: int) -> Iterator[Work]:
    """Attention with the projections to queries, keys and values inside, in one matrix."""
    width = ctx.shape(1)[-1]
    queries = (ctx.node.attributes.get("qkv_hidden_sizes") or (width // 3,))[0]
    keys = _attended_positions(ctx, 0, past)
    yield ctx.work((*ctx.axes(0), Axis(1, 1)))
    yield ctx.work((*ctx.axes(0)[:2], Axis(1, 1, (0, int(queries)))), keys)
    yield ctx.work(ctx.axes(RESULT), keys)


def _attended_positions(ctx: MacContext, place: int, past: int) -> int:
    """How many positions are attended to, those in a cache included."""
    present = ctx.find(RESULT - 1)
    if present is not None and len(present) > 3:
        return present[-2]
    earlier, own = ctx.find(past), ctx.shape(place)
    return (own[1] if len(own) == 5 else own[-2]) + (earlier[-2] if earlier else 0)
