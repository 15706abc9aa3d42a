"""Attention as one operator: heads are its outermost channels, and its default scale depends on their size.

The products of queries and keys are summed inside the operator, so query and key channels are consumed at its
entrance (where a bias is added inside, that is part of the entrance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxmi.axes.unify import TermId
from onnxmi.operators.context import RuleContext, Terms


@dataclass(frozen=True)
class _Heads:
    """Terms of one attention operator: key heads, queries a key head, query/key and value channels of a head."""

    keys: TermId
    group: TermId
    qk: TermId
    value: TermId

    @staticmethod
    def of(ctx: RuleContext, n_heads: int, n_key_heads: int, qk: int, value: int) -> _Heads:
        dim = ctx.solver.dim
        heads = _Heads(dim(n_key_heads), dim(n_heads // n_key_heads), dim(qk), dim(value))
        for term, kind in ((heads.keys, "heads"), (heads.group, "heads"), (heads.qk, "qk"), (heads.value, "value")):
            ctx.set_kind(term, kind)
        ctx.pin_attribute("scale", qk**-0.5, heads.qk)
        return heads

    def queries(self, ctx: RuleContext) -> list[TermId]:
        return [term for term in (self.keys, self.group) if ctx.size(term) != 1] or [self.keys]

    def packed(self, ctx: RuleContext, what: str) -> TermId:
        outer = self.queries(ctx) if what in ("query", "out") else [self.keys]
        return ctx.solver.product([*outer, self.value if what in ("value", "out") else self.qk])


def _place(ctx: RuleContext, terms: Terms | None, heads: _Heads, what: str) -> None:
    """Tie (batch, positions, heads * channels) or (batch, heads, positions, channels)."""
    if terms is None:
        return
    if len(terms) == 3:
        ctx.freeze(terms[1:2], "attends over it")
        ctx.unify(terms[2], heads.packed(ctx, what))
    elif len(terms) == 4:
        ctx.freeze(terms[2:3], "attends over it")
        outer = heads.queries(ctx) if what in ("query", "out") else [heads.keys]
        ctx.unify(terms[1], ctx.solver.product(outer))
        ctx.unify(terms[3], heads.value if what in ("value", "out") else heads.qk)
    else:
        ctx.freeze(terms, "packs its operands in a way that is not understood")


def _one_batch(ctx: RuleContext, operands: Sequence[Terms | None]) -> None:
    """Tie the first axes: each sample attends to itself."""
    firsts = [terms[0] for terms in operands if terms]
    for first in firsts[1:]:
        if ctx.size(first) == ctx.size(firsts[0]):
            ctx.unify(firsts[0], first)
        else:
            ctx.freeze([first, firsts[0]], "pairs batches in a way that is not understood")


def _consume(ctx: RuleContext, positions: Sequence[int]) -> None:
    for position in positions:
        if position < len(ctx.ins) and ctx.ins[position]:
            ctx.contract(position, -1)


def _per_head(ctx: RuleContext, operands: Sequence[Terms | None], position: int, heads: _Heads) -> None:
    """An attention bias (..., heads or 1, queries, keys), or the scores."""
    terms = operands[position] if position < len(operands) else None
    if terms is not None:
        ctx.freeze([*terms[-2:], *terms[:-3]], "attends over it")
    if terms is not None and len(terms) > 2 and ctx.size(terms[-3]) != 1:
        ctx.unify(terms[-3], ctx.solver.product(heads.queries(ctx)))


def _cache(ctx: RuleContext, operands: Sequence[Terms | None], heads: _Heads) -> None:
    """Keys, then values, of earlier positions: (batch, heads, positions, channels) each."""
    for number, terms in enumerate(operands):
        if terms is not None and len(terms) == 4:
            _place(ctx, terms, heads, ("key", "value")[number % 2])
        elif terms:
            ctx.freeze([*terms, heads.keys, heads.qk, heads.value], "keeps it in a cache")


def _optional(operands: Sequence[Terms | None], *positions: int) -> list[Terms | None]:
    return [operands[place] if place < len(operands) else None for place in positions]


def attention_axes(ctx: RuleContext) -> None:
    """ONNX's Attention, from opset 23."""
    query, key, value = _optional(ctx.ins, 0, 1, 2)
    if query is None or key is None or value is None:
        return
    if len(query) == 4:
        n_heads, n_key_heads = ctx.size(query[1]), ctx.size(key[1])
        heads = _Heads.of(ctx, n_heads, n_key_heads, ctx.size(query[3]), ctx.size(value[3]))
    else:
        n_heads, n_key_heads = int(ctx.attribute("q_num_heads")), int(ctx.attribute("kv_num_heads"))
        sizes = ctx.size(query[2]) // n_heads, ctx.size(value[2]) // n_key_heads
        heads = _Heads.of(ctx, n_heads, n_key_heads, *sizes)
        ctx.declare_size("q_num_heads", ctx.solver.product(heads.queries(ctx)))
        ctx.declare_size("kv_num_heads", heads.keys)
    for terms, what in ((query, "query"), (key, "key"), (value, "value"), (ctx.outs[0], "out")):
        _place(ctx, terms, heads, what)
    _one_batch(ctx, [query, key, value, *_optional(ctx.ins, 4, 5), *ctx.outs])
    if any(ctx.ins[3:]):
        ctx.freeze(query[:1], "is told of each sample what to attend to")
    _consume(ctx, (0, 1))
    _per_head(ctx, ctx.ins, 3, heads)
    _cache(ctx, [*_optional(ctx.ins, 4, 5), *_optional(ctx.outs, 1, 2)], heads)
    _per_head(ctx, ctx.outs, 3, heads)


def multi_head_axes(ctx: RuleContext) -> None:
    """com.microsoft.MultiHeadAttention with separate queries, keys and values."""
    query, key, value = _optional(ctx.ins, 0, 1, 2)
    if query is None or key is None or value is None or len(query) != 3 or len(key) > 4:
        ctx.freeze_all("packs its operands in a way that is not understood")
        return
    n_heads = int(ctx.attribute("num_heads"))
    width = ctx.size(value[3]) if len(value) == 4 else ctx.size(value[2]) // n_heads
    heads = _Heads.of(ctx, n_heads, n_heads, ctx.size(query[2]) // n_heads, width)
    ctx.declare_size("num_heads", heads.keys)
    for terms, what in ((query, "query"), (key, "key"), (value, "value"), (ctx.outs[0], "out")):
        _place(ctx, terms, heads, what)
    bias = ctx.operand(3)
    if bias is not None:
        ctx.unify(bias[0], ctx.solver.sum([heads.packed(ctx, what) for what in ("query", "key", "value")]))
    _consume(ctx, (0, 1, 3))
    _per_head(ctx, ctx.ins, 5, heads)
    _cache(ctx, [*_optional(ctx.ins, 6, 7), *_optional(ctx.outs, 1, 2)], heads)
    _per_head(ctx, ctx.outs, 3, heads)


def packed_axes(ctx: RuleContext) -> None:
    """com.microsoft.Attention: the projections to queries, keys and values are inside, in one matrix."""
    source, weights, out = ctx.operand(0), ctx.operand(1), ctx.outs[0]
    if source is None or weights is None or out is None:
        return
    n_heads = int(ctx.attribute("num_heads"))
    stated = ctx.attribute("qkv_hidden_sizes")
    widths = stated or (ctx.size(weights[1]) // 3,) * 3
    heads = _Heads.of(ctx, n_heads, n_heads, widths[0] // n_heads, widths[2] // n_heads)
    parts = [heads.packed(ctx, what) for what in ("query", "key", "value")]
    if stated is None:  # three equal parts
        ctx.unify(heads.qk, heads.value)
    ctx.unify(source[-1], weights[0])
    ctx.unify(weights[1], ctx.solver.sum(parts))
    _place(ctx, out, heads, "out")
    ctx.declare_size("num_heads", heads.keys)
    for entry, part in enumerate(parts if stated else ()):
        ctx.declare_size("qkv_hidden_sizes", part, entry)
    bias = ctx.operand(2)
    if bias is not None:
        ctx.unify(bias[0], weights[1])
    _consume(ctx, (0, 1, 2))
    if ctx.attribute("do_rotary", 0):
        ctx.freeze([heads.qk], "rotates it")
    _cache(ctx, [*_optional(ctx.ins, 4), *_optional(ctx.outs, 1)], heads)
    _per_head(ctx, ctx.ins, 5, heads)


def grouped_query_axes(ctx: RuleContext) -> None:
    """com.microsoft.GroupQueryAttention: several query heads read one key head."""
    query, key, value = _optional(ctx.ins, 0, 1, 2)
    if query is None:
        return
    n_heads, n_key_heads = int(ctx.attribute("num_heads")), int(ctx.attribute("kv_num_heads"))
    size = ctx.size(query[2]) // (n_heads if key is not None else n_heads + 2 * n_key_heads)
    heads = _Heads.of(ctx, n_heads, n_key_heads, size, size)
    ctx.unify(heads.qk, heads.value)  # the operator knows one head size
    ctx.declare_size("num_heads", ctx.solver.product(heads.queries(ctx)))
    ctx.declare_size("kv_num_heads", heads.keys)
    if key is None:  # all three in one
        parts = [heads.packed(ctx, what) for what in ("query", "key", "value")]
        ctx.unify(query[2], ctx.solver.sum(parts))
    else:
        _place(ctx, query, heads, "query")
    for terms, what in ((key, "key"), (value, "value"), (ctx.outs[0], "out")):
        _place(ctx, terms, heads, what)
    _consume(ctx, (0, 1))
    _cache(ctx, [*_optional(ctx.ins, 3, 4), *_optional(ctx.outs, 1, 2)], heads)
    ctx.freeze([heads.qk], "rotates it" if ctx.attribute("do_rotary", 0) else "takes heads of 8, 16, ... channels")


def _positions(ctx: RuleContext, operand: Terms, table: Terms, ids: int) -> None:
    """The angles depend on the positions, and on the batch where each sample has positions of its own."""
    places = operand[2:3] if len(operand) == 4 else operand[1:2]
    ctx.freeze([*places, *table[:-1]], "turns it by its position")
    stated = ctx.operand(ids)
    if len(table) == 3:
        _one_batch(ctx, [operand, table])
    if stated is not None and len(stated) == 2:
        ctx.freeze(stated[1:], "turns it by its position")
        _one_batch(ctx, [operand, stated])


def rotary_axes(ctx: RuleContext, cos: int, sin: int) -> None:
    """Turns pairs of channels by angles that a table lists, one column a pair."""
    operand, out, table = ctx.operand(0), ctx.outs[0], ctx.operand(cos)
    if operand is None or out is None or table is None:
        return
    ctx.unify_axes(operand, out)
    ctx.unify_axes(table, ctx.operand(sin))
    _positions(ctx, operand, table, 3 if cos == 1 else 1)
    pairs = table[-1]
    two = ctx.solver.dim(2)
    ctx.freeze([two], "turns pairs of channels")
    halves = ctx.solver.product([pairs, two]) if ctx.attribute("interleaved", 0) else None
    turned = ctx.solver.sum([pairs, pairs]) if halves is None else halves
    channels = operand[-1]
    if ctx.attribute("rotary_embedding_dim", 0) or ctx.size(channels) % ctx.size(turned):
        ctx.freeze([channels, pairs], "rotates a part of it")
        return
    if len(operand) == 4:
        ctx.unify(channels, turned)
        return
    heads = ctx.solver.dim(ctx.size(channels) // ctx.size(turned))
    ctx.unify(channels, ctx.solver.product([heads, turned]))
    if ctx.attribute("num_heads", 0):
        ctx.declare_size("num_heads", heads)
