"""Products of queries and keys in whatever operator they are: measured as in a plain MatMul."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onnxmi.selection.top_down import unscored
from onnxmi.statistics.attention_scores import ScoreProduct, find_score_products
from tests.statistics.conftest import Scene, scene_of
from tests.support.build import Build

HEADS, DIMS, WIDTH, TOKENS, COUNT = 3, 5, 11, 7, 13
MS = "com.microsoft"
SCALE = DIMS**-0.5


def model(form: str) -> onnx.ModelProto:
    """The same attention in many forms; the keys' bias is the same for every key."""
    b = Build(seed=1, opset=23 if form.startswith("standard") else 17)
    x = b.input("N", TOKENS, WIDTH)
    weights = [b.weight(WIDTH, HEADS * DIMS, fan_in=WIDTH) for _ in range(3)]
    vector = b.vector(3 * HEADS * DIMS)
    biases = [b.const(part) for part in np.split(b.initializers[vector], 3)]
    flat = [b.op("MatMul", x, weight) for weight in weights]
    if form != "multi-head":
        flat = [b.op("Add", one, bias) for one, bias in zip(flat, biases, strict=True)]
    return b.proto(b.dense(_attend(b, form, flat, vector), HEADS * DIMS, 3))


def _attend(b: Build, form: str, flat: list[str], vector: str) -> str:
    if form == "multi-head":
        return b.op("MultiHeadAttention", *flat, vector, num_heads=HEADS, domain=MS)
    if form == "standard, packed":
        return b.op("Attention", *flat, q_num_heads=HEADS, kv_num_heads=HEADS)
    heads = [b.reshape(one, 0, 0, HEADS, DIMS) for one in flat]
    turned = form == "matmul"
    orders = [0, 2, 1, 3], [0, 2, 3, 1] if turned else [0, 2, 1, 3], [0, 2, 1, 3]
    query, key, value = (b.op("Transpose", one, perm=list(p)) for one, p in zip(heads, orders, strict=True))
    if form == "standard":
        mixed = b.op("Attention", query, key, value)
    else:
        made = (
            b.op("MatMul", query, key) if turned else b.op("FusedMatMul", query, key, transB=1, alpha=SCALE, domain=MS)
        )
        scores = b.op("Mul", made, b.const(SCALE)) if turned else made
        mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), value)
    return b.reshape(b.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, HEADS * DIMS)


def arrays() -> dict[str, NDArray[np.float32]]:
    return {"x": np.random.default_rng(3).normal(size=(COUNT, TOKENS, WIDTH)).astype(np.float32)}


def measured(form: str) -> tuple[Scene, ScoreProduct, NDArray[np.float64]]:
    scene = scene_of(model(form), arrays())
    analysis = scene.analysis
    (product,) = (p for p in find_score_products(analysis.model.graph, analysis.graph, {}) if p.term.size == DIMS)
    (found,) = scene.measure(range(COUNT))
    return scene, product, np.asarray(found.scores[product.key].covariance)


@pytest.mark.parametrize("form", ["fused", "standard", "standard, packed", "multi-head"])
def test_each_operator_shows_the_same_shares(form: str) -> None:
    _, plain, wanted = measured("matmul")
    scene, product, got = measured(form)
    assert wanted.shape == (HEADS, DIMS, DIMS)
    assert product.softmax
    assert plain.softmax
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    (found,) = scene.measure(range(COUNT))
    found_in = scene.analysis
    assert not unscored(found_in, found, found_in.graph.layers)


def test_fewer_key_heads_than_query_heads_are_left_alone() -> None:
    b = Build(seed=1, opset=23)
    x = b.input("N", TOKENS, WIDTH)
    query, key, value = (b.dense(x, WIDTH, heads * DIMS) for heads in (6, 2, 2))
    made = b.op("Attention", query, key, value, q_num_heads=6, kv_num_heads=2)
    scene = scene_of(b.proto(b.dense(made, 6 * DIMS, 3)), arrays())
    assert find_score_products(scene.analysis.model.graph, scene.analysis.graph, {}) == ()


def test_pairs_of_dimensions_that_are_turned_together_are_one_unit() -> None:
    """Rotary embeddings: each unit owns a dimension of either half."""
    b = Build(seed=1)
    x = b.input("N", TOKENS, WIDTH)
    cos, sin = (b.const(np.tile(f(np.arange(TOKENS)[:, None] * [1.0, 0.1, 0.01]), 2)) for f in (np.cos, np.sin))
    parts = []
    for order in ([0, 2, 1, 3], [0, 2, 1, 3]):
        made = b.op("Transpose", b.reshape(b.dense(x, WIDTH, HEADS * 6), 0, 0, HEADS, 6), perm=order)
        first, second = b.op("Split", made, b.ints(3, 3), axis=-1, outputs=2)
        half = b.op("Concat", b.op("Neg", second), first, axis=-1)
        parts.append(b.op("Add", b.op("Mul", made, cos), b.op("Mul", half, sin)))
    scores = b.op("MatMul", parts[0], b.op("Transpose", parts[1], perm=[0, 1, 3, 2]))
    value = b.op("Transpose", b.reshape(b.dense(x, WIDTH, HEADS * DIMS), 0, 0, HEADS, DIMS), perm=[0, 2, 1, 3])
    mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    scene = scene_of(b.proto(b.dense(b.reshape(mixed, 0, 0, HEADS * DIMS), HEADS * DIMS, 3)), arrays())
    analysis = scene.analysis
    (layer,) = (layer for layer in analysis.graph.layers if layer.kind == "qk")
    (product,) = (p for p in find_score_products(analysis.model.graph, analysis.graph, {}) if p.term.size == 6)
    units = product.units(layer)
    assert [sorted(row[:3]) for row in units.tolist()] == [sorted(row[3:]) for row in units.tolist()]
    (found,) = scene.measure(range(COUNT))
    assert not unscored(analysis, found, [layer])
