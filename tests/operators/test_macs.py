"""Multiply-accumulates of fused, recurrent and packed operators: as many as of what they stand for, also once cut."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.budget.latency_model import keep_first_units, sample_sizes
from onnxmi.budget.size_grid import candidate_sizes
from onnxmi.errors import UsageError
from onnxmi.graph.cost import all_shapes, cost
from onnxmi.graph.cost_model import CostModel, mac_pieces
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from tests.support.build import Build
from tests.support.oracle import Case

MS, IN, TOKENS, WIDTH, HEADS, DIMS, OUT = "com.microsoft", 7, 3, 13, 4, 5, 5
INNER = HEADS * DIMS
SAMPLES = 3  # as the probe takes
Counted = tuple[onnx.ModelProto, int]


def attention() -> Counted:
    b = Build(seed=3)
    x = b.op("Relu", b.dense(b.input("N", TOKENS, IN), IN, WIDTH))
    made = b.op("Attention", x, b.weight(WIDTH, 3 * INNER), b.vector(3 * INNER), num_heads=HEADS, domain=MS)
    macs = IN * WIDTH + WIDTH * 3 * INNER + 2 * TOKENS * INNER + INNER * OUT
    return b.proto(b.dense(made, INNER, OUT), dims=[("N", TOKENS, OUT)]), TOKENS * macs


def packed() -> Counted:
    b = Build(seed=3)
    blocks, block = 5, 16
    x = b.op("Relu", b.dense(b.input("N", TOKENS, IN), IN, blocks * block))
    stored = b.const(b.rng.integers(0, 255, size=(OUT, blocks, block // 2)).astype(np.uint8))
    attributes = {"K": blocks * block, "N": OUT, "bits": 4, "block_size": block}
    made = b.op("MatMulNBits", x, stored, b.vector(OUT * blocks), domain=MS, **attributes)
    return b.proto(made, dims=[("N", TOKENS, OUT)]), TOKENS * blocks * block * (IN + OUT)


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(op: str, directions: int) -> Counted:
    b, rows = Build(seed=3), GATES[op] * WIDTH
    steps = b.op("Transpose", b.input("N", TOKENS, IN), perm=[1, 0, 2])
    weights = b.weight(directions, rows, IN), b.weight(directions, rows, WIDTH)
    way = "forward" if directions == 1 else "bidirectional"
    made, _ = b.op(op, steps, *weights, hidden_size=WIDTH, direction=way, outputs=2)
    flat = b.reshape(b.op("Transpose", made, perm=[2, 0, 1, 3]), 0, 0, -1)
    macs = directions * (rows * (IN + WIDTH) + WIDTH * OUT)
    return b.proto(b.dense(flat, directions * WIDTH, OUT), dims=[("N", TOKENS, OUT)]), TOKENS * macs


def einsum(first: str, second: str) -> Counted:
    b = Build(seed=3)
    made = b.op("Einsum", b.input("N", TOKENS, IN), b.weight(IN, WIDTH), equation=first)
    return b.proto(b.op("Einsum", made, b.weight(WIDTH, OUT), equation=second)), TOKENS * WIDTH * (IN + OUT)


def chain() -> Counted:
    """Three operands: the first two are multiplied, and what is left of them with the third."""
    b = Build(seed=3)
    operands = b.input("N", TOKENS, IN), b.weight(IN, WIDTH), b.weight(WIDTH, OUT)
    return b.proto(b.op("Einsum", *operands, equation="nti,iw,wo->nto")), TOKENS * WIDTH * (IN + OUT)


def deformable() -> Counted:
    b = Build(seed=3, opset=19)
    b.input("N", TOKENS, IN)
    x = b.op("Unsqueeze", "x", b.ints(1))
    hidden = b.op("Relu", b.op("Conv", x, b.weight(WIDTH, 1, 1, 1)))
    offsets = b.op("Conv", x, b.weight(2, 1, 1, 1))
    made = b.op("DeformConv", hidden, b.weight(OUT, WIDTH, 1, 1), offsets)
    return b.proto(made), TOKENS * IN * (WIDTH + 2 + OUT * WIDTH)


def spelled_out(b: Build, query: str, key: str, value: str) -> str:
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2]))
    return b.op("MatMul", b.op("Softmax", scores, axis=-1), value)


def attended(form: str) -> Counted:
    """One encoder's attention as it is exported, and as it is fused."""
    b = Build(seed=3, opset=23 if form.startswith("standard") else 17)
    x = b.input("N", TOKENS, IN)
    flat = [b.dense(x, IN, INNER) for _ in range(3)]
    heads = [b.op("Transpose", b.reshape(one, 0, 0, HEADS, DIMS), perm=[0, 2, 1, 3]) for one in flat]
    if form == "multi-head":
        mixed = b.op("MultiHeadAttention", *flat, num_heads=HEADS, domain=MS)
    elif form == "standard, packed":
        mixed = b.op("Attention", *flat, q_num_heads=HEADS, kv_num_heads=HEADS)
    else:
        made = b.op("Attention", *heads) if form == "standard" else spelled_out(b, *heads)
        mixed = b.reshape(b.op("Transpose", made, perm=[0, 2, 1, 3]), 0, 0, INNER)
    macs = 3 * IN * INNER + 2 * TOKENS * INNER + INNER * OUT
    return b.proto(b.dense(mixed, INNER, OUT), dims=[("N", TOKENS, OUT)]), TOKENS * macs


def grouped(packing: bool, past: int) -> Counted:
    """Grouped queries: the positions of a cache are attended to, too."""
    b, size, kv = Build(seed=3), 8, 2
    samples = 1 if past else SAMPLES  # onnxruntime takes several positions beside a cache for one sample alone
    queries, keys = HEADS * size, kv * size
    x = b.input(samples, TOKENS, IN)
    if packing:
        made = [b.dense(x, IN, queries + 2 * keys), "", ""]
    else:
        made = [b.dense(x, IN, queries), b.dense(x, IN, keys), b.dense(x, IN, keys)]
    total = past + TOKENS
    cache = [b.const(b.rng.normal(size=(samples, kv, past, size))) if past else "" for _ in range(2)]
    lengths = b.const(np.full(samples, total - 1, np.int32)), b.const(np.array(total, np.int32))
    out, *_ = b.op(
        "GroupQueryAttention", *made, *cache, *lengths, num_heads=HEADS, kv_num_heads=kv, outputs=3, domain=MS
    )
    proto = b.proto(b.dense(out, queries, OUT), dims=[(samples, TOKENS, OUT)])
    return proto, TOKENS * (IN * (queries + 2 * keys) + 2 * total * queries + queries * OUT)


CASES = {
    "Attention": attention,
    "MatMulNBits": packed,
    **{f"{op} {ways}": (lambda op=op, ways=ways: recurrent(op, ways)) for op in GATES for ways in (1, 2)},
    "einsum": lambda: einsum("nti,iw->ntw", "ntw,wo->nto"),
    "einsum, ellipsis": lambda: einsum("...i,iw->...w", "...w,wo"),
    "einsum, three": chain,
    "deformable": deformable,
    **{form: (lambda form=form: attended(form)) for form in ("plain", "multi-head", "standard", "standard, packed")},
    "grouped": lambda: grouped(False, 0),
    "grouped, packed": lambda: grouped(True, 0),
    "grouped, packed, past": lambda: grouped(True, 6),
}


@pytest.mark.parametrize("name", CASES)
def test_they_are_counted_and_predicted(name: str) -> None:
    proto, wanted = CASES[name]()
    analysis = onnxmi.analyse(proto)
    samples = 1 if "past" in name else SAMPLES
    feeds = {"x": np.zeros((samples, TOKENS, IN), np.float32)}
    assert cost(proto, feeds, samples).macs == wanted
    graph, layers = analysis.model.graph, analysis.graph.layers
    shapes = all_shapes(graph, proto, feeds)
    macs = CostModel.of(mac_pieces(graph, analysis.graph, shapes, samples), [layer.id for layer in layers])
    sizes = {layer.id: candidate_sizes(analysis, layer, 1) for layer in layers}
    sizes = {atom: found[found > 0] for atom, found in sizes.items()}
    for draw in sample_sizes(sizes, 5, seed=3):
        cut = prune_channels(Cut(analysis, keep_first_units(layers, draw)))
        assert macs.total(draw) == pytest.approx(cost(cut, feeds, samples).macs, rel=1e-6)


def test_most_of_them_can_be_cut() -> None:
    uncut = [name for name, make in CASES.items() if not Case.of(make()[0]).graph.layers]
    assert uncut == []


def sums() -> onnx.ModelProto:
    """A layer that is summed over, in a model without any product of matrices."""
    b = Build(seed=3)
    wide = b.op("Mul", b.op("Unsqueeze", b.input("N", IN), b.ints(2)), b.weight(IN, WIDTH))
    return b.proto(b.op("ReduceSum", b.op("Relu", wide), b.ints(2), keepdims=0), dims=[("N", IN)])


def test_a_budget_on_a_cost_of_nothing_is_refused() -> None:
    data = {"x": np.random.default_rng(0).normal(size=(30, IN)).astype(np.float32)}
    with pytest.raises(UsageError, match=r"^--macs: the model has no multiply-accumulates"):
        onnxmi.prune(sums(), data, onnxmi.PruneOptions(macs=0.5, threads=1))
    with pytest.raises(UsageError, match=r"^--by macs: the model has no multiply-accumulates"):
        onnxmi.sweep(sums(), data, onnxmi.PruneOptions(threads=1), by="macs")
