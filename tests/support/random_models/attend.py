"""Attention as decoders of many families write it: rotary positions, groups of queries, caps, windows and caches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tests.support.random_models.dense import matmul
from tests.support.random_models.fused import MICROSOFT
from tests.support.random_models.maker import Flow, Maker

PAST = 3  # tokens in a cache
_SIZES = [(3, 3, 4), (3, 1, 6), (4, 2, 6), (2, 2, 10), (6, 2, 4)]  # heads, groups of keys and values, dimensions


@dataclass(frozen=True)
class Decoder:
    """One attention: how many heads, and which of the many ways it is written in."""

    heads: int
    groups: int
    size: int
    length: int
    cached: bool

    @property
    def seen(self) -> int:
        return self.length + PAST * self.cached

    @property
    def share(self) -> int:
        return self.heads // self.groups


def decoder_attention(m: Maker, x: Flow) -> Flow:
    """Written out: everything about it is drawn."""
    made = Decoder(*m.pick(_SIZES), x.space[0], m.wide and m.flag(0.3))
    query = _by_heads(m, x, made.heads, made.size)
    key, value = (_by_heads(m, x, made.groups, made.size) for _ in range(2))
    if m.flag(0.25):
        query, key = (_unit_length(m, part, made.size) for part in (query, key))
    if m.flag(0.6):
        query, key = _rotated(m, (query, key), made)
    if made.cached:
        key, value = m.cached(key, value, (made.groups, PAST, made.size))
    mixed = _mixed(m, made, query, key, value)
    joined = m.op("Transpose", mixed, perm=[0, 2, 1, 3])
    inner = made.heads * made.size
    flat = m.op("Reshape", joined, m.shape_of(x.name, [m.batch_entry(), made.length, inner]))
    return matmul(m, replace(x, name=flat, channels=inner), x.channels)


def _by_heads(m: Maker, x: Flow, heads: int, size: int) -> str:
    """(n, heads, t, size)."""
    made = matmul(m, x, heads * size).name
    shape = m.shape_of(made, [m.batch_entry(), m.pick([x.space[0], "@1"]), heads, size])
    return str(m.op("Transpose", m.op("Reshape", made, shape), perm=[0, 2, 1, 3]))


def _unit_length(m: Maker, x: str, size: int) -> str:
    """A root mean square normalization over the dimensions, with a scale that the heads share."""
    square = m.op("ReduceMean", m.op("Mul", x, x), axes=[-1], keepdims=1)
    root = m.op("Sqrt", m.op("Add", square, m.b.const(np.float32(0.05))))
    return str(m.op("Mul", m.op("Div", x, root), m.b.const(m.b.rng.uniform(0.5, 1.5, size=size))))


# -- rotary positions -------------------------------------------------------------------------------------------------


def _rotated(m: Maker, parts: tuple[str, str], made: Decoder) -> tuple[str, str]:
    """Queries and keys, turned by the same angles; sometimes the first dimensions only."""
    turned = made.size - 2 if made.size > 4 and m.flag(0.3) else made.size
    first = PAST * made.cached
    angles = np.outer(np.arange(first, first + made.length), 1 / 20.0 ** (np.arange(turned // 2) / turned))
    cosine, sine = _angles(m, angles, first, made.length)
    return (_turned(m, parts[0], cosine, sine, turned, made), _turned(m, parts[1], cosine, sine, turned, made))


def _angles(m: Maker, angles: np.ndarray, first: int, length: int) -> tuple[str, str]:
    """Cosines and sines, stored or computed of the positions: (t, turned)."""
    if m.flag():
        doubled = np.concatenate([angles, angles], axis=1)
        return m.b.const(np.cos(doubled)), m.b.const(np.sin(doubled))
    places = m.op("Range", *(m.b.const(np.float32(entry)) for entry in (first, first + length, 1)))
    rates = m.b.const(angles[-1:] / max(first + length - 1, 1))
    half = m.op("Mul", m.op("Unsqueeze", places, m.literal([1])), rates)
    doubled = m.op("Concat", half, half, axis=-1)
    return m.op("Cos", doubled), m.op("Sin", doubled)


def _turned(m: Maker, x: str, cosine: str, sine: str, turned: int, made: Decoder) -> str:
    kept = x if turned == made.size else _dimensions(m, x, 0, turned)
    halves = (_dimensions(m, kept, 0, turned // 2), _dimensions(m, kept, turned // 2, turned))
    swapped = m.op("Concat", m.op("Neg", halves[1]), halves[0], axis=-1)
    made_of = m.op("Add", m.op("Mul", kept, cosine), m.op("Mul", swapped, sine))
    if turned == made.size:
        return str(made_of)
    return str(m.op("Concat", made_of, _dimensions(m, x, turned, made.size), axis=-1))


def _dimensions(m: Maker, x: str, start: int, stop: int) -> str:
    return str(m.op("Slice", x, m.literal([start]), m.literal([stop]), m.literal([3])))


# -- scores -----------------------------------------------------------------------------------------------------------


def _mixed(m: Maker, made: Decoder, query: str, key: str, value: str) -> str:
    """(n, heads, t, size)."""
    apart = made.share > 1 and m.flag(0.4)  # queries by group, keys broadcast; else keys are repeated
    if apart:
        query = m.op("Reshape", query, m.literal([0, made.groups, made.share, made.length, made.size]))
        key, value = (m.op("Unsqueeze", part, m.literal([2])) for part in (key, value))
    elif made.share > 1:
        key, value = (_repeated(m, part, made) for part in (key, value))
    order = [0, 1, 2, 4, 3] if apart else [0, 1, 3, 2]
    scores = m.op("MatMul", query, m.op("Transpose", key, perm=order))
    scores = m.op("Mul", scores, m.b.const(np.float32(made.size**-0.5)))
    if m.flag(0.3):
        cap = m.b.const(np.float32(2.5))
        scores = m.op("Mul", m.op("Tanh", m.op("Div", scores, cap)), cap)
    mixed = m.op("MatMul", m.op("Softmax", _masked(m, scores, made, [1, 2, 3] if apart else [1, 2]), axis=-1), value)
    return m.op("Reshape", mixed, m.literal([0, made.heads, made.length, made.size])) if apart else str(mixed)


def _repeated(m: Maker, x: str, made: Decoder) -> str:
    """(n, groups, s, size) as (n, heads, s, size)."""
    shape = m.literal([1, 1, made.share, 1, 1])
    if m.flag():
        shape = m.shape_of(x, ["@0", made.groups, made.share, "@2", made.size])
    spread = m.op("Expand", m.op("Unsqueeze", x, m.literal([2])), shape)
    return str(m.op("Reshape", spread, m.literal([0, made.heads, -1, made.size])))


def _masked(m: Maker, scores: str, made: Decoder, axes: list[int]) -> str:
    """Scores of what a token may look at: everything, what came before it, or a window of that."""
    form = m.pick(["all", "stored", "computed", "fed"])
    last = np.arange(made.seen - made.length, made.seen)[:, None]
    place, reach = np.arange(made.seen)[None, :], m.pick([2, made.seen])
    if form == "stored":
        return str(m.op("Add", scores, m.b.const(np.where((place <= last) & (place > last - reach), 0.0, -1e4))))
    if form == "computed":
        now = m.op("Unsqueeze", _counted(m, made.seen - made.length, made.seen), m.literal([1]))
        places = _counted(m, 0, made.seen)
        start = m.op("Sub", now, m.b.const(np.int64(reach)))
        seen = m.op("And", m.op("LessOrEqual", places, now), m.op("Greater", places, start))
        return str(m.op("Where", seen, scores, m.b.const(np.float32(-1e9))))
    if form == "fed" and m.wide:
        mask = m.op("Sub", m.one(), m.op("Cast", m.feed("attention_mask", (made.seen,), "mask"), to=1))
        weighted = m.op("Mul", mask, m.b.const(np.float32(-1e4)))
        return str(m.op("Add", scores, m.op("Unsqueeze", weighted, m.literal(axes))))
    return scores


def _counted(m: Maker, start: int, stop: int) -> str:
    return str(m.op("Range", *(m.b.const(np.int64(entry)) for entry in (start, stop, 1))))


# -- fused ------------------------------------------------------------------------------------------------------------


def fused_decoder(m: Maker, x: Flow) -> Flow:
    """As onnxruntime's builder of decoders writes it: groups of queries, rotary positions, cap, window in one."""
    size, turns = (16, 1) if m.flag() else (8, 0)
    heads, groups = m.pick([(2, 1), (2, 2), (3, 1), (4, 2)])
    query = matmul(m, x, heads * size).name
    key, value = (matmul(m, x, groups * size).name for _ in range(2))
    count = m.op("Slice", m.op("Shape", x.name), m.literal([0]), m.literal([1]))
    last = m.op("Expand", m.b.const(np.array([x.space[0] - 1], np.int32)), count)
    total = m.b.const(np.array([x.space[0]], np.int32))
    angles = np.outer(np.arange(x.space[0] + 4), 1 / 20.0 ** (np.arange(size // 2) * 2 / size))
    turning = [m.b.const(np.cos(angles)), m.b.const(np.sin(angles))] if turns else []
    attrs: dict[str, float] = {"softcap": 2.5} if m.flag(0.4) else {}
    attrs |= {"local_window_size": 2} if m.flag(0.4) else {}
    made = m.op(
        "GroupQueryAttention",
        *(query, key, value, "", "", last, total, *turning),
        outputs=3,
        domain=MICROSOFT,
        num_heads=heads,
        kv_num_heads=groups,
        do_rotary=turns,
        **attrs,
    )
    if m.wide and m.flag():
        m.state(made[1], made[2], (groups, x.space[0], size))
    return matmul(m, replace(x, name=made[0], channels=heads * size), x.channels)


def fused_attention(m: Maker, x: Flow) -> Flow:
    """Heads in one node that reads queries, keys and values, or holds their weights in one matrix."""
    heads, size = 3, m.pick([4, 6])
    inner = heads * size
    if m.flag():
        of_value = m.pick([inner, heads * 5])
        settings = {"num_heads": heads, "qkv_hidden_sizes": [inner, inner, of_value], "unidirectional": int(m.flag())}
        width = 2 * inner + of_value
        made = m.op("Attention", x.name, m.b.weight(x.channels, width), m.b.vector(width), domain=MICROSOFT, **settings)
        return matmul(m, replace(x, name=made, channels=of_value), x.channels)
    parts = [matmul(m, x, inner).name for _ in range(3)]
    made = m.op("MultiHeadAttention", *parts, domain=MICROSOFT, num_heads=heads)
    return matmul(m, replace(x, name=made, channels=inner), x.channels)
