"""Operators that onnxruntime fuses: scored and repaired as what they were fused from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxmi
from onnxmi.axes.keeping import Keeping
from onnxmi.graph.linear import feature_rows, find_linears, output_rows, row_count, weights_of
from onnxmi.repair import StepOptions
from onnxmi.repair.epilogue import find_epilogue
from onnxmi.runtime.session import open_session
from onnxmi.transforms.prune_channels import prune_channels
from tests.repair.conftest import Bench
from tests.support.build import Build
from tests.support.oracle import Case

MS = "com.microsoft"
IN, WIDTH, OUT, TOKENS, HEADS, DIMS = 7, 13, 5, 3, 3, 5
Fused = Callable[[Build, str], str]


def gemm(b: Build, x: str) -> str:
    return b.op("FusedGemm", x, b.weight(OUT, WIDTH), b.vector(OUT), transB=1, alpha=0.5, activation="Relu", domain=MS)


def matmul(b: Build, x: str) -> str:
    return b.op("FusedMatMul", x, b.weight(OUT, WIDTH), transB=1, alpha=0.5, domain=MS)


def conv(b: Build, x: str) -> str:
    weight = b.weight(OUT, WIDTH, 3, 3)
    return b.op("FusedConv", x, weight, b.vector(OUT), pads=[1, 1, 1, 1], activation="Relu", domain=MS)


def conv_and_sum(b: Build, x: str) -> str:
    other = b.conv(x, WIDTH, OUT, kernel=(1, 1))
    weight = b.weight(OUT, WIDTH, 3, 3)
    return b.op("FusedConv", x, weight, b.vector(OUT), other, pads=[1, 1, 1, 1], activation="Relu", domain=MS)


def attention(b: Build, x: str) -> str:
    weight = b.weight(WIDTH, 3 * HEADS * DIMS, fan_in=WIDTH)
    made = b.op("Attention", x, weight, b.vector(3 * HEADS * DIMS), num_heads=HEADS, domain=MS)
    return b.dense(made, HEADS * DIMS, OUT)


def bias_gelu(b: Build, x: str) -> str:
    made = b.op("BiasGelu", b.op("MatMul", x, b.weight(WIDTH, OUT, fan_in=WIDTH)), b.vector(OUT), domain=MS)
    return b.dense(made, OUT, OUT)


def skip(b: Build, x: str) -> str:
    stream = b.dense(x, WIDTH, OUT)
    made = b.op("MatMul", x, b.weight(WIDTH, OUT, fan_in=WIDTH))
    scale = b.const(b.rng.uniform(0.5, 1.5, size=OUT))
    return b.op("SkipLayerNormalization", stream, made, scale, b.vector(OUT), b.vector(OUT), epsilon=1e-5, domain=MS)


FUSED: dict[str, Fused] = {f.__name__: f for f in (gemm, matmul, conv, conv_and_sum, attention, bias_gelu, skip)}


def model(name: str) -> onnx.ModelProto:
    b = Build(seed=11)
    if name.startswith("conv"):
        hidden, dims = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, WIDTH)), ("N", OUT, 5, 7)
    elif name == "gemm":
        hidden, dims = b.op("Relu", b.gemm(b.input("N", IN), IN, WIDTH)), ("N", OUT)
    else:
        hidden, dims = b.op("Relu", b.dense(b.input("N", TOKENS, IN), IN, WIDTH)), ("N", TOKENS, OUT)
    return b.proto(FUSED[name](b, hidden), dims=[dims])


SEEN = {"gemm": "FusedGemm", "matmul": "FusedMatMul", "conv": "FusedConv", "conv_and_sum": "FusedConv"}


@pytest.mark.parametrize("name", SEEN)
def test_rows_times_weights_and_the_bias_are_what_the_operator_gives(name: str) -> None:
    case = Case.of(model(name))
    linear = next(one for one in find_linears(case.model.graph, case.graph) if one.nodes[0].op == SEEN[name])
    epilogue = find_epilogue(case.model, case.graph, linear)
    taps = [linear.taps[0], linear.key, *([epilogue.stream] if epilogue.stream else [])]
    values = open_session(case.model.proto, taps=taps, optimise=False).run(case.feeds())
    row_indices = np.arange(row_count(linear, values[linear.taps[0]]))
    made = feature_rows(linear, values[linear.taps[0]], row_indices) @ weights_of(case.model, linear) + epilogue.offset
    if epilogue.stream:
        made = made + output_rows(linear, values[epilogue.stream], row_indices, 1)
    assert (epilogue.activation is not None) == (name != "matmul")
    made = made if epilogue.activation is None else epilogue.activation.values(made)
    np.testing.assert_allclose(made, output_rows(linear, values[linear.key], row_indices, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FUSED)
def test_a_repair_is_better_than_the_plain_cut(name: str, bench: type[Bench]) -> None:
    scene = bench(model(name))
    keeping = Keeping({key: kept for key, kept in scene.keep().items() if scene.graph.layer(key).size == WIDTH})
    made = scene.stepwise(keeping, StepOptions(everywhere=False))
    assert all(note.used for note in made.notes)
    assert len(made.notes) == {"conv_and_sum": 2, "skip": 2}.get(name, 1)
    assert scene.error(keeping, made.replacements) < 0.8 * scene.error(keeping)


@pytest.mark.parametrize(("name", "op"), [("bias_gelu", "BiasGelu"), ("skip", "SkipLayerNormalization")])
def test_a_bias_that_a_later_operator_adds_takes_up_the_repair(name: str, op: str, bench: type[Bench]) -> None:
    """No operator is added for it."""
    scene = bench(model(name))
    keeping = Keeping({key: kept for key, kept in scene.keep().items() if scene.graph.layer(key).size == WIDTH})
    repaired = prune_channels(scene.cut(keeping), scene.stepwise(keeping).replacements)
    assert [n.op_type for n in repaired.graph.node] == [n.op_type for n in scene.model.proto.graph.node]
    assert op in {n.op_type for n in repaired.graph.node}


def test_a_stream_that_a_normalisation_adds_is_part_of_the_target() -> None:
    case = Case.of(model("skip"))
    nodes = case.model.graph.nodes
    found = find_linears(case.model.graph, case.graph)
    ends = {nodes[one.biases[0].node].op: one for one in found if one.biases[0] is not None}
    epilogue = find_epilogue(case.model, case.graph, ends["SkipLayerNormalization"])
    (node,) = (node for node in nodes if node.op == "SkipLayerNormalization")
    assert epilogue.stream == node.inputs[0]
    assert epilogue.activation is None


def cnn() -> onnx.ModelProto:
    b = Build(seed=2)
    x = b.op("Relu", b.conv(b.input("N", 3, 9, 7), 3, 23))
    x = b.op("Relu", b.op("Add", x, b.conv(b.op("Relu", b.conv(x, 23, 19)), 19, 23)))
    return b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", x)), 23, 5))


def mlp() -> onnx.ModelProto:
    b = Build(seed=2)
    x = b.op("Relu", b.gemm(b.input("N", IN), IN, 23))
    return b.proto(b.gemm(b.op("Relu", b.gemm(x, 23, 19)), 19, 5))


@pytest.mark.parametrize("make", [cnn, mlp])
def test_a_model_is_pruned_like_what_onnxruntime_made_of_it(
    make: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    """The same units stay, and the results agree to the last digits."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    proto = make()
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fused = onnx.load(tmp_path / "fused.onnx")
    assert any(node.op_type.startswith("Fused") for node in fused.graph.node)
    shape = (257, 3, 9, 7) if make is cnn else (257, IN)
    data = {"x": np.random.default_rng(4).normal(size=shape).astype(np.float32)}
    chosen = onnxmi.PruneOptions(keep=0.5, threads=1)
    plain, other = (onnxmi.prune(one, data, chosen) for one in (proto, fused))
    assert [list(c.kept) for c in plain.plan.choices] == [list(c.kept) for c in other.plan.choices]
    first, second = (open_session(one.proto, threads=1).run(data) for one in (plain, other))
    for a, c in zip(first.values(), second.values(), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-2, atol=1e-2 * np.abs(a).max())
