"""Gradients of attention as one operator, by what it reads.

What lies between is not to be had from outside, so it is computed anew, and compared with what came out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.vjp import Gradients, NoGradientError, VjpContext, without_operands
from onnxmi.typing import Array

_TOLERANCE = 1e-3  # relative, of what came out: another kind of mask or scale is far off
_FILLED = -10_000.0  # what onnxruntime adds to scores of masked keys


def packed_vjp(ctx: VjpContext) -> Gradients:
    """Of softmax(q k' s + mask) v with q, k, v = x W + b: onnxruntime's.

    Raises
    ------
    NoGradientError
        If what is computed anew is not what came out.
    """
    return ctx.first_only(projection_gradients(ctx) @ ctx.values(ctx.node.inputs[1]).T)


def projection_gradients(ctx: VjpContext) -> Array:
    """Gradient of the products x W inside of it, (N, T, M).

    Raises
    ------
    NoGradientError
        If what is computed anew is not what came out.
    """
    weight, heads = ctx.values(ctx.node.inputs[1]), int(ctx.node.attributes["num_heads"])
    bias = ctx.operand(2)
    made = ctx.x @ weight if bias is None else ctx.x @ weight + bias
    sizes = ctx.get("qkv_hidden_sizes", (weight.shape[1] // 3,) * 3)
    q, k, v = (_apart(part, heads) for part in np.split(made, np.cumsum(sizes)[:2], axis=-1))
    mask = _mask(ctx, ctx.operand(3), k.shape[-2], "unidirectional")
    return np.concatenate([_together(part) for part in _through(ctx, (q, k, v), mask, _together)], axis=-1)


def multi_head_vjp(ctx: VjpContext) -> Gradients:
    """Of onnxruntime's attention by queries, keys and values that come apart, without their biases.

    Raises
    ------
    NoGradientError
        If what is computed anew is not what came out.
    """
    values, bias = [ctx.values(name) for name in ctx.node.inputs[:3]], ctx.operand(3)
    if bias is not None:
        ends = np.cumsum([value.shape[-1] for value in values])[:2]
        values = [value + part for value, part in zip(values, np.split(bias, ends), strict=True)]
    q, k, v = (_apart(value, int(ctx.node.attributes["num_heads"])) for value in values)
    mask, further = _mask(ctx, ctx.operand(4), k.shape[-2], "unidirectional"), ctx.operand(5)
    parts = _through(ctx, (q, k, v), mask if further is None else mask + further, _together)
    return [_together(part) for part in parts]


def grouped_query_vjp(ctx: VjpContext) -> Gradients:
    """Of onnxruntime's attention of a decoder, whose later outputs are all keys and values up to now.

    Queries, keys and values come apart, or side by side in the first operand.

    Raises
    ------
    NoGradientError
        If what is computed anew is not what came out.
    """
    heads, groups = (int(ctx.node.attributes[name]) for name in ("num_heads", "kv_num_heads"))
    keys, stored = (ctx.values(name) for name in ctx.node.outputs[1:3])
    length, new = keys.shape[2], ctx.x.shape[1]
    turn = _turn(ctx, length - new, new)
    together = not ctx.node.operand(1)
    share = ctx.x.shape[-1] * heads // (heads + 2 * groups) if together else ctx.x.shape[-1]
    q = turn(_apart(ctx.x[..., :share], heads), 1)
    hidden = np.triu(np.ones((new, length), bool), length - new + 1)
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
    queries, *later = _through(ctx, (q, keys, stored), mask, _together)
    later = [
        part if beside is None else part + beside for part, beside in zip(later, ctx.output_gradients[1:3], strict=True)
    ]
    k, v = (part[:, :, -new:] for part in later)
    found = [_together(part) for part in (turn(queries, -1), turn(k, -1), v)]
    return ctx.first_only(np.concatenate(found, axis=-1)) if together else found


def _turn(ctx: VjpContext, before: int, new: int) -> Callable[[Array, int], Array]:
    """What turns halves of heads (N, heads, T, D) by the angles of their positions, or with a sign of -1 back."""
    if not ctx.get("do_rotary", 0):
        return lambda rows, _sign: rows
    places = ctx.operand(9)
    places = np.arange(before, before + new)[None] if places is None else places
    cosine, sine = (ctx.values(ctx.node.inputs[place])[places][:, None] for place in (7, 8))
    half = cosine.shape[-1]

    def turn(rows: Array, sign: int) -> Array:
        first, second, rest = np.split(rows, [half, 2 * half], axis=-1)
        turned = first * cosine - sign * second * sine, second * cosine + sign * first * sine
        return np.concatenate([*turned, rest], axis=-1)

    return turn


def attention_vjp(ctx: VjpContext) -> Gradients:
    """Of ONNX's Attention, by queries, keys and values: with heads on an axis of their own, or together with channels.

    Raises
    ------
    NoGradientError
        If what is computed anew is not what came out.
    """
    values = [ctx.values(name) for name in ctx.node.inputs[:3]]
    counts = [ctx.get(name, 0) for name in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    q, k, v = (x if x.ndim == 4 else _apart(x, count) for x, count in zip(values, counts, strict=True))
    arrange = _together if values[0].ndim == 3 else np.asarray
    parts = _through(ctx, (q, k, v), _mask(ctx, ctx.operand(3), k.shape[-2], "is_causal"), arrange)
    return [part if x.ndim == 4 else _together(part) for part, x in zip(parts, values, strict=True)]


def _through(
    ctx: VjpContext, operands: tuple[Array, ...], mask: Array, arrange: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """Gradients of queries, keys and values, (N, heads, T, D) each; heads in a row may share keys and values."""
    q, *shared = operands
    k, v = (np.repeat(part, q.shape[1] // part.shape[1], axis=1) for part in shared)
    scale = ctx.get("scale", 0.0) or q.shape[-1] ** -0.5
    share = _softmax(scale * (q @ k.swapaxes(-1, -2)) + mask)
    result = arrange(share @ v)
    if not np.allclose(result, ctx.y, atol=_TOLERANCE * float(np.abs(ctx.y).max(initial=0.0))):
        raise NoGradientError(f"{ctx.node.label}: the gradient of this attention is not known")
    upper = ctx.g if ctx.g.ndim == 4 else _apart(ctx.g, q.shape[1])
    inner = upper @ v.swapaxes(-1, -2)
    scores = scale * share * (inner - (inner * share).sum(axis=-1, keepdims=True))
    back = scores.swapaxes(-1, -2) @ q, share.swapaxes(-1, -2) @ upper
    keys, stored = (
        part.reshape((*own.shape[:2], -1, *part.shape[2:])).sum(axis=2) for part, own in zip(back, shared, strict=True)
    )
    return scores @ k, keys, stored


def _apart(rows: Array, heads: int) -> Array:
    """(N, T, heads * D) as (N, heads, T, D)."""
    return rows.reshape(*rows.shape[:2], heads, -1).swapaxes(1, 2)


def _together(heads: Array) -> Array:
    return heads.swapaxes(1, 2).reshape(heads.shape[0], heads.shape[2], -1)


def _softmax(scores: Array) -> Array:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _mask(ctx: VjpContext, given: Array | None, length: int, causal: str) -> Array:
    """What is added to the scores: what is given itself, or what hides keys, pairs, and where asked for later keys."""
    filled = np.float32(ctx.get("mask_filter_value", _FILLED))
    if given is not None and given.dtype.kind == "f":
        return given
    hidden = np.zeros((1, 1, 1, length), bool)
    if given is not None and given.dtype.kind == "b":
        hidden = ~given
    elif given is not None:
        seen = np.arange(length) < given[:, None] if given.ndim == 1 else given != 0
        hidden = ~seen.reshape(seen.shape[0], 1, -1, length)
    if ctx.get(causal, 0):
        hidden = hidden | np.triu(np.ones((length, length), bool), 1)
    return np.asarray(hidden * filled)


def is_plain_grouped(node: Node) -> bool:
    """Whether there are no biases of scores, sinks, windows or another softmax, and no scores are put out."""
    usual = without_operands(10, 11, local_window_size=-1, rotary_interleaved=0, softcap=0.0)(node)
    return usual and node.attributes.get("smooth_softmax", 0) < 1 and not any(node.outputs[3:])
