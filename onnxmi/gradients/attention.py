"""Gradients of attention as one operator, by what it reads.

What lies between is not to be had from outside, so it is computed anew, and compared with what came out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxmi.gradients.call import Array, Call, Gradients, NoGradientError

_TOLERANCE = 1e-3  # relative, of what came out: another kind of mask or scale is far off
_FILLED = -10_000.0  # what onnxruntime adds to scores of masked keys
_FURTHER = (4, 5, 6)  # operands for what was before, for biases of scores and for lengths
_SETTINGS = ("do_rotary", "softcap")  # what else may be done to keys or scores


def fused_attention(call: Call) -> Gradients:
    """Of softmax(q k' s + mask) v with q, k, v = x W + b: onnxruntime's.

    Raises
    ------
    NoGradientError
        If what is computed anew is not what came out.
    """
    weight, heads = call.values(call.node.inputs[1]), int(call.node.attributes["num_heads"])
    bias = call.operand(2)
    made = call.x @ weight if bias is None else call.x @ weight + bias
    sizes = call.get("qkv_hidden_sizes", (weight.shape[1] // 3,) * 3)
    q, k, v = (_apart(part, heads) for part in np.split(made, np.cumsum(sizes)[:2], axis=-1))
    parts = _through(call, (q, k, v), _mask(call, k.shape[-2], "unidirectional"), _together)
    return call.only(np.concatenate([_together(part) for part in parts], axis=-1) @ weight.T)


def attention(call: Call) -> Gradients:
    """Of ONNX's Attention, by queries, keys and values: with heads on an axis of their own, or together with channels.

    Raises
    ------
    NoGradientError
        If what is computed anew is not what came out.
    """
    values = [call.values(name) for name in call.node.inputs[:3]]
    counts = [call.get(name, 0) for name in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    q, k, v = (x if x.ndim == 4 else _apart(x, count) for x, count in zip(values, counts, strict=True))
    group = q.shape[1] // k.shape[1]
    shared = (np.repeat(x, group, axis=1) for x in (k, v))
    arrange = _together if values[0].ndim == 3 else np.asarray
    parts = _through(call, (q, *shared), _mask(call, k.shape[-2], "is_causal"), arrange)
    back = zip(parts, (q, k, v), strict=True)
    summed = [part.reshape(*x.shape[:2], -1, *x.shape[2:]).sum(axis=2) for part, x in back]
    return [part if x.ndim == 4 else _together(part) for part, x in zip(summed, values, strict=True)]


def _through(
    call: Call, operands: tuple[Array, ...], mask: Array, arrange: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """Gradients of queries, keys and values, (N, heads, T, D) each."""
    q, k, v = operands
    scale = call.get("scale", 0.0) or q.shape[-1] ** -0.5
    share = _softmax(scale * (q @ k.swapaxes(-1, -2)) + mask)
    result = arrange(share @ v)
    further = any(map(call.node.operand, _FURTHER)) or any(call.get(name, 0) for name in _SETTINGS)
    if further or not np.allclose(result, call.y, atol=_TOLERANCE * float(np.abs(call.y).max(initial=0.0))):
        raise NoGradientError(f"{call.node.label}: the gradient of this attention is not known")
    upper = call.g if call.g.ndim == 4 else _apart(call.g, q.shape[1])
    inner = upper @ v.swapaxes(-1, -2)
    scores = scale * share * (inner - (inner * share).sum(axis=-1, keepdims=True))
    return scores @ k, scores.swapaxes(-1, -2) @ q, share.swapaxes(-1, -2) @ upper


def _apart(rows: Array, heads: int) -> Array:
    """(N, T, heads * D) as (N, heads, T, D)."""
    return rows.reshape(*rows.shape[:2], heads, -1).swapaxes(1, 2)


def _together(heads: Array) -> Array:
    return heads.swapaxes(1, 2).reshape(heads.shape[0], heads.shape[2], -1)


def _softmax(scores: Array) -> Array:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _mask(call: Call, length: int, causal: str) -> Array:
    """What is added to the scores: the operand itself, or what hides keys, pairs, and where asked for later keys."""
    filled = np.float32(call.get("mask_filter_value", _FILLED))
    given = call.operand(3)
    if given is not None and given.dtype.kind == "f":
        return given
    hidden = np.zeros((1, 1, 1, length), bool)
    if given is not None and given.dtype.kind == "b":
        hidden = ~given
    elif given is not None:
        seen = np.arange(length) < given[:, None] if given.ndim == 1 else given != 0
        hidden = ~seen.reshape(seen.shape[0], 1, -1, length)
    if call.get(causal, 0):
        hidden = hidden | np.triu(np.ones((length, length), bool), 1)
    return np.asarray(hidden * filled)
