"""Attention as one operator: heads are its outermost channels, and its default scale depends on their size.

The products of queries and keys are summed inside the operator, so query and key channels are consumed at its
entrance (where a bias is added inside, that is part of the entrance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxmi.operators.context import Rule, Site, Terms


@dataclass(frozen=True)
class _Heads:
    """Terms of one attention operator: key heads, queries a key head, query/key and value channels of a head."""

    keys: int
    group: int
    qk: int
    value: int

    @staticmethod
    def of(site: Site, heads: int, key_heads: int, qk: int, value: int) -> _Heads:
        dim = site.solver.dim
        made = _Heads(dim(key_heads), dim(heads // key_heads), dim(qk), dim(value))
        for term, kind in ((made.keys, "heads"), (made.group, "heads"), (made.qk, "qk"), (made.value, "value")):
            site.calls(term, kind)
        site.pins("scale", qk**-0.5, made.qk)
        return made

    def queries(self, site: Site) -> list[int]:
        return [term for term in (self.keys, self.group) if site.size(term) != 1] or [self.keys]

    def packed(self, site: Site, what: str) -> int:
        outer = self.queries(site) if what in ("query", "out") else [self.keys]
        return site.solver.product([*outer, self.value if what in ("value", "out") else self.qk])


def _place(site: Site, terms: Terms | None, heads: _Heads, what: str) -> None:
    """Tie (batch, positions, heads * channels) or (batch, heads, positions, channels)."""
    if terms is None:
        return
    if len(terms) == 3:
        site.freeze(terms[1:2], "attends over it")
        site.unify(terms[2], heads.packed(site, what))
    elif len(terms) == 4:
        site.freeze(terms[2:3], "attends over it")
        outer = heads.queries(site) if what in ("query", "out") else [heads.keys]
        site.unify(terms[1], site.solver.product(outer))
        site.unify(terms[3], heads.value if what in ("value", "out") else heads.qk)
    else:
        site.freeze(terms, "packs its operands in a way that is not understood")


def _one_batch(site: Site, operands: Sequence[Terms | None]) -> None:
    """Tie the first axes: each sample attends to itself."""
    firsts = [terms[0] for terms in operands if terms]
    for first in firsts[1:]:
        if site.size(first) == site.size(firsts[0]):
            site.unify(firsts[0], first)
        else:
            site.freeze([first, firsts[0]], "pairs batches in a way that is not understood")


def _consume(site: Site, positions: Sequence[int]) -> None:
    for position in positions:
        if position < len(site.ins) and site.ins[position]:
            site.contract(position, -1)


def _per_head(site: Site, operands: Sequence[Terms | None], position: int, heads: _Heads) -> None:
    """An attention bias (..., heads or 1, queries, keys), or the scores."""
    terms = operands[position] if position < len(operands) else None
    if terms is not None:
        site.freeze([*terms[-2:], *terms[:-3]], "attends over it")
    if terms is not None and len(terms) > 2 and site.size(terms[-3]) != 1:
        site.unify(terms[-3], site.solver.product(heads.queries(site)))


def _cache(site: Site, operands: Sequence[Terms | None], heads: _Heads) -> None:
    """Keys, then values, of earlier positions: (batch, heads, positions, channels) each."""
    for number, terms in enumerate(operands):
        if terms is not None and len(terms) == 4:
            _place(site, terms, heads, ("key", "value")[number % 2])
        elif terms:
            site.freeze([*terms, heads.keys, heads.qk, heads.value], "keeps it in a cache")


def _optional(operands: Sequence[Terms | None], *positions: int) -> list[Terms | None]:
    return [operands[place] if place < len(operands) else None for place in positions]


def _standard(site: Site) -> None:
    """ONNX's Attention, from opset 23."""
    query, key, value = _optional(site.ins, 0, 1, 2)
    if query is None or key is None or value is None:
        return
    if len(query) == 4:
        heads, key_heads = site.size(query[1]), site.size(key[1])
        made = _Heads.of(site, heads, key_heads, site.size(query[3]), site.size(value[3]))
    else:
        heads, key_heads = int(site.attribute("q_num_heads")), int(site.attribute("kv_num_heads"))
        sizes = site.size(query[2]) // heads, site.size(value[2]) // key_heads
        made = _Heads.of(site, heads, key_heads, *sizes)
        site.states_size("q_num_heads", site.solver.product(made.queries(site)))
        site.states_size("kv_num_heads", made.keys)
    for terms, what in ((query, "query"), (key, "key"), (value, "value"), (site.outs[0], "out")):
        _place(site, terms, made, what)
    _one_batch(site, [query, key, value, *_optional(site.ins, 4, 5), *site.outs])
    if any(site.ins[3:]):
        site.freeze(query[:1], "is told of each sample what to attend to")
    _consume(site, (0, 1))
    _per_head(site, site.ins, 3, made)
    _cache(site, [*_optional(site.ins, 4, 5), *_optional(site.outs, 1, 2)], made)
    _per_head(site, site.outs, 3, made)


def _multi_head(site: Site) -> None:
    """com.microsoft.MultiHeadAttention with separate queries, keys and values."""
    query, key, value = _optional(site.ins, 0, 1, 2)
    if query is None or key is None or value is None or len(query) != 3 or len(key) > 4:
        site.freeze_all("packs its operands in a way that is not understood")
        return
    heads = int(site.attribute("num_heads"))
    width = site.size(value[3]) if len(value) == 4 else site.size(value[2]) // heads
    made = _Heads.of(site, heads, heads, site.size(query[2]) // heads, width)
    site.states_size("num_heads", made.keys)
    for terms, what in ((query, "query"), (key, "key"), (value, "value"), (site.outs[0], "out")):
        _place(site, terms, made, what)
    bias = site.operand(3)
    if bias is not None:
        site.unify(bias[0], site.solver.sum([made.packed(site, what) for what in ("query", "key", "value")]))
    _consume(site, (0, 1, 3))
    _per_head(site, site.ins, 5, made)
    _cache(site, [*_optional(site.ins, 6, 7), *_optional(site.outs, 1, 2)], made)
    _per_head(site, site.outs, 3, made)


def _packed(site: Site) -> None:
    """com.microsoft.Attention: the projections to queries, keys and values are inside, in one matrix."""
    source, weights, out = site.operand(0), site.operand(1), site.outs[0]
    if source is None or weights is None or out is None:
        return
    heads = int(site.attribute("num_heads"))
    stated = site.attribute("qkv_hidden_sizes")
    widths = stated or (site.size(weights[1]) // 3,) * 3
    made = _Heads.of(site, heads, heads, widths[0] // heads, widths[2] // heads)
    parts = [made.packed(site, what) for what in ("query", "key", "value")]
    if stated is None:  # three equal parts
        site.unify(made.qk, made.value)
    site.unify(source[-1], weights[0])
    site.unify(weights[1], site.solver.sum(parts))
    _place(site, out, made, "out")
    site.states_size("num_heads", made.keys)
    for entry, part in enumerate(parts if stated else ()):
        site.states_size("qkv_hidden_sizes", part, entry)
    bias = site.operand(2)
    if bias is not None:
        site.unify(bias[0], weights[1])
    _consume(site, (0, 1, 2))
    if site.attribute("do_rotary", 0):
        site.freeze([made.qk], "rotates it")
    _cache(site, [*_optional(site.ins, 4), *_optional(site.outs, 1)], made)
    _per_head(site, site.ins, 5, made)


def _grouped_query(site: Site) -> None:
    """com.microsoft.GroupQueryAttention: several query heads read one key head."""
    query, key, value = _optional(site.ins, 0, 1, 2)
    if query is None:
        return
    heads, key_heads = int(site.attribute("num_heads")), int(site.attribute("kv_num_heads"))
    size = site.size(query[2]) // (heads if key is not None else heads + 2 * key_heads)
    made = _Heads.of(site, heads, key_heads, size, size)
    site.unify(made.qk, made.value)  # the operator knows one head size
    site.states_size("num_heads", site.solver.product(made.queries(site)))
    site.states_size("kv_num_heads", made.keys)
    if key is None:  # all three in one
        parts = [made.packed(site, what) for what in ("query", "key", "value")]
        site.unify(query[2], site.solver.sum(parts))
    else:
        _place(site, query, made, "query")
    for terms, what in ((key, "key"), (value, "value"), (site.outs[0], "out")):
        _place(site, terms, made, what)
    _consume(site, (0, 1))
    _cache(site, [*_optional(site.ins, 3, 4), *_optional(site.outs, 1, 2)], made)
    site.freeze([made.qk], "rotates it" if site.attribute("do_rotary", 0) else "takes heads of 8, 16, ... channels")


def _positions(site: Site, operand: Terms, table: Terms, ids: int) -> None:
    """The angles depend on the positions, and on the batch where each sample has positions of its own."""
    places = operand[2:3] if len(operand) == 4 else operand[1:2]
    site.freeze([*places, *table[:-1]], "turns it by its position")
    stated = site.operand(ids)
    if len(table) == 3:
        _one_batch(site, [operand, table])
    if stated is not None and len(stated) == 2:
        site.freeze(stated[1:], "turns it by its position")
        _one_batch(site, [operand, stated])


def _rotary(site: Site, cos: int, sin: int) -> None:
    """Turns pairs of channels by angles that a table lists, one column a pair."""
    operand, out, table = site.operand(0), site.outs[0], site.operand(cos)
    if operand is None or out is None or table is None:
        return
    site.tie(operand, out)
    site.tie(table, site.operand(sin))
    _positions(site, operand, table, 3 if cos == 1 else 1)
    pairs = table[-1]
    two = site.solver.dim(2)
    site.freeze([two], "turns pairs of channels")
    halves = site.solver.product([pairs, two]) if site.attribute("interleaved", 0) else None
    turned = site.solver.sum([pairs, pairs]) if halves is None else halves
    channels = operand[-1]
    if site.attribute("rotary_embedding_dim", 0) or site.size(channels) % site.size(turned):
        site.freeze([channels, pairs], "rotates a part of it")
        return
    if len(operand) == 4:
        site.unify(channels, turned)
        return
    heads = site.solver.dim(site.size(channels) // site.size(turned))
    site.unify(channels, site.solver.product([heads, turned]))
    if site.attribute("num_heads", 0):
        site.states_size("num_heads", heads)


RULES: dict[tuple[str, str], Rule] = {
    ("", "Attention"): _standard,
    ("", "RotaryEmbedding"): lambda site: _rotary(site, 1, 2),
    ("com.microsoft", "RotaryEmbedding"): lambda site: _rotary(site, 2, 3),
    ("com.microsoft", "Attention"): _packed,
    ("com.microsoft", "MultiHeadAttention"): _multi_head,
    ("com.microsoft", "GroupQueryAttention"): _grouped_query,
}
