"""Attention, in pieces and as one operator."""

import numpy as np
import onnx
import pytest

from onnxmi.axes.keeping import Kept
from tests.support.build import Build
from tests.support.oracle import Case, assert_exact, cut_all

HEADS, SIZE, WIDTH, TOKENS = 3, 5, 7, 11


def split_heads(b: Build, x: str, heads: int = HEADS, size: int = SIZE) -> str:
    return b.op("Transpose", b.reshape(x, 0, 0, heads, size), perm=[0, 2, 1, 3])


def attend(b: Build, q: str, k: str, v: str) -> str:
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
    return b.op("Transpose", mixed, perm=[0, 2, 1, 3])


def kinds(case: Case) -> dict[str, tuple[int, int]]:
    return {layer.kind: (layer.size, layer.parts) for layer in case.graph.layers}


def test_separate_projections() -> None:
    b = Build()
    x = b.input("N", TOKENS, WIDTH)
    q, k, v = (split_heads(b, b.dense(x, WIDTH, HEADS * SIZE)) for _ in range(3))
    merged = b.reshape(attend(b, q, k, v), 0, 0, HEADS * SIZE)
    case = Case.of(b.proto(b.dense(merged, HEADS * SIZE, WIDTH)))
    assert kinds(case) == {"heads": (HEADS, 1), "qk": (SIZE, HEADS), "value": (SIZE, HEADS)}
    assert_exact(case, cut_all(case, drop=2))


@pytest.mark.parametrize("how", ["split", "slice", "gather"])
def test_a_fused_projection(how: str) -> None:
    b = Build()
    x = b.input("N", TOKENS, WIDTH)
    fused, width = b.dense(x, WIDTH, 3 * HEADS * SIZE), HEADS * SIZE
    if how == "split":
        parts = b.op("Split", fused, b.ints(width, width, width), axis=-1, outputs=3)
    elif how == "slice":
        bounds = [(i * width, (i + 1) * width) for i in range(3)]
        parts = [b.op("Slice", fused, b.ints(s), b.ints(e), b.ints(-1)) for s, e in bounds]
    else:
        stacked = b.op("Transpose", b.reshape(fused, 0, 0, 3, HEADS, SIZE), perm=[2, 0, 3, 1, 4])
        parts = [b.op("Gather", stacked, b.const(np.array(i)), axis=0) for i in range(3)]
    q, k, v = parts if how == "gather" else [split_heads(b, part) for part in parts]
    merged = b.reshape(attend(b, q, k, v), 0, 0, width)
    case = Case.of(b.proto(b.dense(merged, width, WIDTH)))
    assert kinds(case)["heads"] == (HEADS, 1)
    assert_exact(case, cut_all(case, drop=2))


def test_repeated_key_heads() -> None:
    b = Build()
    group = 2
    x = b.input(3, TOKENS, WIDTH)
    q = split_heads(b, b.dense(x, WIDTH, HEADS * group * SIZE), HEADS * group)
    k, v = (split_heads(b, b.dense(x, WIDTH, HEADS * SIZE)) for _ in range(2))

    def repeat(y: str) -> str:
        wide = b.op("Expand", b.op("Unsqueeze", y, b.ints(2)), b.ints(3, HEADS, group, TOKENS, SIZE))
        return b.reshape(wide, 3, HEADS * group, TOKENS, SIZE)

    merged = b.reshape(attend(b, q, repeat(k), repeat(v)), 0, 0, HEADS * group * SIZE)
    case = Case.of(b.proto(b.dense(merged, HEADS * group * SIZE, WIDTH)))
    assert {layer.size for layer in case.graph.layers} == {HEADS, group, SIZE}
    assert_exact(case, cut_all(case))


def test_a_scale_computed_from_a_shape_stays() -> None:
    b = Build()
    x = b.input("N", TOKENS, WIDTH)
    q, k, v = (split_heads(b, b.dense(x, WIDTH, HEADS * SIZE)) for _ in range(3))
    size = b.op("Gather", b.op("Shape", q), b.const(np.array(-1)), axis=0)
    q = b.op("Div", q, b.op("Sqrt", b.op("Cast", size, to=1)))
    merged = b.reshape(attend(b, q, k, v), 0, 0, HEADS * SIZE)
    case = Case.of(b.proto(b.dense(merged, HEADS * SIZE, WIDTH)))
    assert_exact(case, cut_all(case, drop=2))


def fused(op: str, *, bias: bool = True) -> Case:
    """The contrib operators of onnxruntime's transformer optimizer."""
    b = Build()
    x, width = b.input(2, TOKENS, WIDTH), HEADS * SIZE
    if op == "Attention":
        made = b.op(op, x, b.weight(WIDTH, 3 * width), b.vector(3 * width), num_heads=HEADS, domain="com.microsoft")
    else:
        parts = [b.op("MatMul", x, b.weight(WIDTH, width)) for _ in range(3)]
        extra = [b.vector(3 * width)] if bias else []
        made = b.op(op, *parts, *extra, num_heads=HEADS, domain="com.microsoft")
    out = b.dense(made, width, WIDTH)
    return Case.of(b.proto(out, dims=[(2, TOKENS, WIDTH)]))


@pytest.mark.parametrize("op", ["Attention", "MultiHeadAttention"])
def test_heads_of_a_fused_operator(op: str) -> None:
    case = fused(op)
    heads = next(layer for layer in case.graph.layers if layer.kind == "heads")
    cut = assert_exact(case, {heads.id: Kept(np.array([0, 2]))})
    node = next(node for node in cut.graph.node if node.op_type == op)
    assert [a.i for a in node.attribute if a.name == "num_heads"] == [2]


@pytest.mark.parametrize("bias", [True, False])
def test_the_default_scale_of_a_fused_operator_stays(bias: bool) -> None:
    case = fused("MultiHeadAttention", bias=bias)
    qk = next(layer for layer in case.graph.layers if layer.kind == "qk")
    cut = assert_exact(case, {qk.id: Kept(np.array([0, 2, 3]))})
    node = next(node for node in cut.graph.node if node.op_type == "MultiHeadAttention")
    assert [a.f for a in node.attribute if a.name == "scale"] == pytest.approx([SIZE**-0.5])


def test_everything_in_a_fused_operator() -> None:
    for op in ("Attention", "MultiHeadAttention"):
        case = fused(op)
        assert_exact(case, cut_all(case))


@pytest.mark.skipif(onnx.defs.onnx_opset_version() < 23, reason="Attention is of operator set 23")
def test_the_standard_operator_with_grouped_heads() -> None:
    b = Build(opset=23)
    x = b.input(2, TOKENS, WIDTH)
    q = split_heads(b, b.dense(x, WIDTH, 2 * HEADS * SIZE), 2 * HEADS)
    k, v = (split_heads(b, b.dense(x, WIDTH, HEADS * SIZE)) for _ in range(2))
    mixed = b.op("Transpose", b.op("Attention", q, k, v), perm=[0, 2, 1, 3])
    out = b.dense(b.reshape(mixed, 0, 0, 2 * HEADS * SIZE), 2 * HEADS * SIZE, WIDTH)
    case = Case.of(b.proto(out, dims=[(2, TOKENS, WIDTH)]))
    assert {layer.kind for layer in case.graph.layers} == {"heads", "qk", "value"}
    assert_exact(case, cut_all(case))


def test_normalised_queries_and_keys_are_not_the_residual_width() -> None:
    """As OLMo 2 and Gemma 3 have it: a norm over the channels of a head."""
    b = Build()
    x = b.input("N", TOKENS, WIDTH)
    q, k, v = (split_heads(b, b.dense(x, WIDTH, HEADS * SIZE)) for _ in range(3))
    q, k = (b.op("LayerNormalization", y, b.vector(SIZE), axis=-1) for y in (q, k))
    merged = b.reshape(attend(b, q, k, v), 0, 0, HEADS * SIZE)
    case = Case.of(b.proto(b.dense(merged, HEADS * SIZE, WIDTH)))
    assert {(layer.kind, layer.grade) for layer in case.graph.layers} == {
        ("qk", "renormalising"),
        ("heads", "exact"),
        ("value", "exact"),
    }
    assert_exact(case, cut_all(case))
