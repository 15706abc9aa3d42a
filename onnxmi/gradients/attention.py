"""The gradient of onnxruntime's fused self-attention by what it reads.

What lies between is not to be had from outside, so it is computed anew, and compared with what came out.
"""

from __future__ import annotations

import numpy as np

from onnxmi.gradients.call import Array, Call, Gradients, NoGradientError

_TOLERANCE = 1e-3  # relative, of what came out: another kind of mask or scale is far off
_FILLED = -10_000.0  # what onnxruntime adds to scores of masked keys
_FURTHER = (4, 5, 6)  # operands for what was before, for biases of scores and for lengths


def attention(call: Call) -> Gradients:
    """Of softmax(q k' s + mask) v with q, k, v = x W + b.

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
    scale = call.get("scale", 0.0) or q.shape[-1] ** -0.5
    share = _softmax(scale * (q @ k.swapaxes(-1, -2)) + _mask(call, k.shape[-2]))
    result = _together(share @ v)
    further = any(call.node.operand(place) for place in _FURTHER) or call.get("do_rotary", 0)
    if further or not np.allclose(result, call.y, atol=_TOLERANCE * float(np.abs(call.y).max(initial=0.0))):
        raise NoGradientError(f"{call.node.label}: the gradient of this attention is not known")
    upper = _apart(call.g, heads)
    inner = upper @ v.swapaxes(-1, -2)
    scores = scale * share * (inner - (inner * share).sum(axis=-1, keepdims=True))
    parts = (scores @ k, scores.swapaxes(-1, -2) @ q, share.swapaxes(-1, -2) @ upper)
    return call.only(np.concatenate([_together(part) for part in parts], axis=-1) @ weight.T)


def _apart(rows: Array, heads: int) -> Array:
    """(N, T, heads * D) as (N, heads, T, D)."""
    return rows.reshape(*rows.shape[:2], heads, -1).swapaxes(1, 2)


def _together(heads: Array) -> Array:
    return heads.swapaxes(1, 2).reshape(heads.shape[0], heads.shape[2], -1)


def _softmax(scores: Array) -> Array:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _mask(call: Call, length: int) -> Array:
    """What is added to the scores: a mask of keys, of pairs, or the samples' lengths; and what causality hides."""
    filled = np.float32(call.get("mask_filter_value", _FILLED))
    given = call.operand(3)
    hidden = np.zeros((1, 1, 1, length), bool)
    if given is not None:
        seen = np.arange(length) < given[:, None] if given.ndim == 1 else given != 0
        hidden = ~seen.reshape(seen.shape[0], 1, -1, length)
    if call.get("unidirectional", 0):
        hidden = hidden | np.triu(np.ones((length, length), bool), 1)
    return np.asarray(hidden * filled)
