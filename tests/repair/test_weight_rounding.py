"""Weights rounded by moments: onnxruntime's quantizer takes them as they are handed to it, and the model is nearer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxmi.quantization.quantize import PreparedModel, prepare, quantize, with_ranges
from onnxmi.quantization.recipe import Recipe
from onnxmi.repair import weight_rounding
from onnxmi.repair.weight_rounding import WeightRounder
from onnxmi.runtime.session import Feeds, open_session
from tests.support.build import Build

WIDTH, INNER, CLASSES = 67, 131, 11
needs_4_bits = pytest.mark.skipif(find_spec("onnx_ir") is None, reason="onnx-ir is in the extra `four-bit`")


def mlp() -> onnx.ModelProto:
    b = Build(seed=5)
    x = b.input("N", WIDTH)
    inner = b.op("Relu", b.op("Add", b.op("MatMul", x, b.weight(WIDTH, INNER)), b.vector(INNER)))
    other = b.op("Gemm", inner, b.weight(INNER, INNER), b.vector(INNER), transB=1)
    return b.proto(b.gemm(b.op("Relu", other), INNER, CLASSES))


def text_net() -> onnx.ModelProto:
    b = Build(seed=7)
    inner = b.op("Relu", b.op("MatMul", b.op("Transpose", b.input("N", WIDTH, 3), perm=[0, 2, 1]), b.weight(WIDTH, 90)))
    other = b.op("Relu", b.op("MatMul", inner, b.weight(90, INNER)))
    return b.proto(b.op("MatMul", other, b.weight(INNER, CLASSES)))


def image_net() -> onnx.ModelProto:
    b = Build(seed=6)
    stem = b.op("Relu", b.conv(b.input("N", 3, 9, 7), 3, 12))
    grouped = b.op("Relu", b.op("Conv", stem, b.weight(20, 3, 3, 3), group=4))
    return b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", grouped)), 20, 5))


def feeds(*sizes: int, seed: int = 3) -> list[Feeds]:
    """Inputs that have much to do with each other."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).normal(size=(sizes[0], sizes[0]))
    batches = (np.moveaxis(rng.normal(size=(101, *sizes)), 1, -1) @ mix for _ in range(3))
    return [{"x": np.moveaxis(batch, -1, 1).astype(np.float32)} for batch in batches]


def rounder(prepared: PreparedModel, batches: Iterable[Feeds]) -> WeightRounder:
    return WeightRounder(prepared, lambda: batches, 1)


def made(prepared: PreparedModel, recipe: Recipe, batches: list[Feeds]) -> onnx.ModelProto:
    return quantize(prepared, with_ranges(prepared, recipe, batches))


def lost(before: onnx.ModelProto, after: onnx.ModelProto, batch: Feeds) -> float:
    was, now = (next(iter(open_session(proto).run(batch).values())) for proto in (before, after))
    return float(np.square(was - now).mean() / was.var())


def stored(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


CASES = [
    ("dynamic", mlp, (WIDTH,)),
    ("static", mlp, (WIDTH,)),
    ("static", image_net, (3, 9, 7)),
    pytest.param("weights", text_net, (WIDTH, 3), marks=needs_4_bits),
]


@pytest.mark.parametrize(("mode", "source", "sizes"), CASES)
def test_the_quantizer_stores_what_it_is_handed(mode, source, sizes) -> None:
    prepared, batches = prepare(source()), feeds(*sizes)
    recipe = prepared.everything(mode)
    rounded = rounder(prepared, batches).rounded(recipe)
    before, handed = stored(prepared.proto), stored(rounded.proto)
    weights = [name for name in handed if handed[name].ndim > 1]
    assert len(weights) == len(recipe.quantized) == 3
    tensors = stored(made(rounded, recipe, batches))
    for name in weights:
        assert (handed[name] != before[name]).mean() > 0.9
        np.testing.assert_allclose(weights_of(tensors, name, handed[name].shape), handed[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("mode", "source", "sizes"), CASES)
def test_the_model_is_nearer_than_if_each_weight_is_rounded_alone(mode, source, sizes) -> None:
    prepared, batches = prepare(source()), feeds(*sizes)
    recipe = replace(prepared.everything(mode), reduced_range=True)
    rounded = rounder(prepared, batches).rounded(recipe)
    tensors = stored(made(prepared, recipe, batches))
    alone = {name: weights_of(tensors, name, one.shape) for name, one in stored(rounded.proto).items() if one.ndim > 1}
    unseen = feeds(*sizes, seed=4)[0]
    lost_alone = lost(prepared.proto, prepared.with_weights(alone).proto, unseen)
    assert lost(prepared.proto, rounded.proto, unseen) < 0.5 * lost_alone


def test_passes_that_take_less_memory_give_the_same(monkeypatch) -> None:
    prepared, batches = prepare(mlp()), feeds(WIDTH)
    recipe = prepared.everything("dynamic")
    first = rounder(prepared, batches).rounded(recipe).proto
    monkeypatch.setattr(weight_rounding, "MEMORY", 8 * INNER**2)
    passes = []
    counted = WeightRounder(prepared, lambda: passes.append(0) or batches, 1)
    assert counted.rounded(recipe).proto == first
    assert len(passes) == 3
    assert counted.rounded(recipe.with_float(recipe.int8[:1])).proto != first
    assert len(passes) == 3  # what another recipe shares is not measured again


def test_a_product_that_is_too_wide_or_that_no_finite_row_reaches_is_left_alone(monkeypatch) -> None:
    prepared = prepare(mlp())
    recipe, before = prepared.everything("dynamic"), stored(prepared.proto)
    broken = [{"x": np.full((13, WIDTH), np.nan, np.float32)}]
    after = stored(rounder(prepared, broken).rounded(recipe).proto)
    assert all((after[name] == before[name]).all() for name in after)
    monkeypatch.setattr(weight_rounding, "MEMORY", 8 * WIDTH**2)
    after = stored(rounder(prepared, feeds(WIDTH)).rounded(recipe).proto)
    assert [name for name in after if (after[name] != before[name]).any()] == ["c1"]


def test_what_stays_float_or_is_read_twice_is_left_alone() -> None:
    b = Build(seed=8)
    x, shared = b.input("N", WIDTH), b.weight(WIDTH, WIDTH)
    inner = b.op("Relu", b.op("MatMul", x, shared))
    proto = b.proto(b.gemm(b.op("Relu", b.op("MatMul", inner, shared)), WIDTH, CLASSES))
    prepared = prepare(proto)
    recipe = prepared.everything("dynamic")
    before = stored(prepared.proto)
    after = stored(rounder(prepared, feeds(WIDTH)).rounded(recipe).proto)
    assert [name for name in after if (after[name] != before[name]).any()] == ["c6"]
    float_recipe = recipe.with_float(recipe.int8)
    after = stored(rounder(prepared, feeds(WIDTH)).rounded(float_recipe).proto)
    assert all((after[name] == before[name]).all() for name in after)


def weights_of(tensors: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return what a quantized model stores in the place of a weight, as float32, by onnxruntime's names for it."""
    block = tensors.get(f"{name}_Q4")
    if block is not None:
        whole = np.stack([block & 15, block >> 4], axis=-1).reshape(*block.shape[:2], -1).astype(np.float32) - 8
        return (whole * tensors[f"{name}_scales"].reshape(*block.shape[:2], 1)).reshape(len(block), -1).T[: shape[0]]
    spelled = name if f"{name}_quantized" in tensors else f"{name}_Transposed"  # a Gemm, taken apart
    whole, scale = tensors[f"{spelled}_quantized"], tensors[f"{spelled}_scale"]
    axis = 1 if spelled != name or whole.shape[0] != len(scale) else 0
    value = whole.astype(np.float32) * scale.reshape([-1 if at == axis else 1 for at in range(whole.ndim)])
    return value if spelled == name else value.T
