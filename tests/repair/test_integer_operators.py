"""Operators on integers are linear operators, too: scored, and repaired with the scales that they have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxmi.graph.linear import feature_rows, find_linears, row_count, weights_of
from onnxmi.repair import OutputComparison, StepOptions, repair
from onnxmi.runtime.session import open_session
from onnxmi.transforms.prune_channels import prune_channels
from tests.repair.conftest import Bench
from tests.support.build import Build
from tests.support.oracle import Case

IN, WIDTH, OUT = 7, 13, 5
MS = "com.microsoft"
Step = Callable[[Build, str, int, int], str]


def stored(b: Build, k: int, m: int, room: float = 1.5) -> tuple[str, str, str]:
    """Weights (k, m) as int8 with one scale an output, with room for what repair adds; their scale and zero point."""
    weight = b.rng.normal(size=(k, m)) / np.sqrt(k)
    weight[0] *= room
    scale = np.abs(weight).max(axis=0) / 127
    integers = np.rint(weight / scale).astype(np.int8)
    return b.const(integers), b.const(scale), b.const(np.zeros(m, np.int8))


def dynamic(b: Build, x: str, k: int, m: int) -> str:
    """As onnxruntime's quantize_dynamic writes it."""
    weight, scale, zero = stored(b, k, m)
    q, q_scale, q_zero = b.op("DynamicQuantizeLinear", x, outputs=3)
    made = b.op("Cast", b.op("MatMulInteger", q, weight, q_zero, zero), to=onnx.TensorProto.FLOAT)
    return b.op("Add", b.op("Mul", made, b.op("Mul", q_scale, scale)), b.vector(m))


def dynamic_without_bias(b: Build, x: str, k: int, m: int) -> str:
    weight, scale, zero = stored(b, k, m)
    q, q_scale, q_zero = b.op("DynamicQuantizeLinear", x, outputs=3)
    made = b.op("Cast", b.op("MatMulInteger", q, weight, q_zero, zero), to=onnx.TensorProto.FLOAT)
    return b.op("Mul", made, b.op("Mul", q_scale, scale))


def to_float(b: Build, x: str, k: int, m: int) -> str:
    weight, scale, zero = stored(b, k, m)
    q, q_scale, q_zero = b.op("DynamicQuantizeLinear", x, outputs=3)
    return b.op("MatMulIntegerToFloat", q, weight, q_scale, scale, q_zero, zero, b.vector(m), domain=MS)


def in_one(b: Build, x: str, k: int, m: int) -> str:
    weight, scale, zero = stored(b, k, m)
    return b.op("DynamicQuantizeMatMul", x, weight, scale, zero, b.vector(m), domain=MS)


def convolution(b: Build, x: str, k: int, m: int) -> str:
    """QLinearConv between quantisers; its bias has the product of both scales."""
    weight = b.rng.normal(size=(m, k, 3, 3)) / np.sqrt(9 * k)
    scale = (np.abs(weight).max(axis=(1, 2, 3)) / 80).astype(np.float32)
    read = b.const(np.float32(0.04)), b.const(np.uint8(101))
    made = b.const(np.float32(0.05)), b.const(np.uint8(119))
    integers = np.rint(weight / scale[:, None, None, None]).astype(np.int8)
    integers[:, 0, 0, 0] = 127
    parameters = b.const(integers), b.const(scale), b.const(np.zeros(m, np.int8))
    bias = b.const(b.rng.integers(-200, 200, size=m).astype(np.int32))
    q = b.op("QuantizeLinear", x, *read)
    y = b.op("QLinearConv", q, *read, *parameters, *made, bias, pads=[1, 1, 1, 1])
    return b.op("DequantizeLinear", y, *made)


PRODUCTS: dict[str, Step] = {f.__name__: f for f in (dynamic, dynamic_without_bias, to_float, in_one)}


def model(step: Step) -> onnx.ModelProto:
    b = Build(seed=11)
    if step is convolution:
        hidden = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, WIDTH))
        return b.proto(step(b, hidden, WIDTH, OUT))
    hidden = b.op("Relu", b.dense(b.input("N", IN), IN, WIDTH))
    return b.proto(step(b, hidden, WIDTH, OUT))


@pytest.mark.parametrize("name", [*PRODUCTS, "convolution"])
def test_rows_times_weights_are_what_the_operator_gives(name: str) -> None:
    """Up to a step of the quantised activation, and without the bias."""
    case = Case.of(model(PRODUCTS.get(name, convolution)))
    linear = find_linears(case.model.graph, case.graph)[-1]
    graph = case.model.graph
    taps = [linear.taps[0], linear.ends[0].outputs[0]]
    values = open_session(case.model.proto, taps=taps, optimise=False).run(case.feeds())
    activation, result = values[taps[0]], values[taps[1]].astype(np.float64)
    row_indices = np.arange(row_count(linear, activation))
    made = np.matmul(feature_rows(linear, activation, row_indices).astype(np.float64), weights_of(case.model, linear))[
        0
    ]
    bias = linear.biases[0]
    if linear.layout.bias is not None:
        made = made + bias.stored.value(case.model)
    if name == "convolution":
        node = linear.nodes[0]
        scale, zero = (float(graph.constant(node.inputs[i])) for i in (6, 7))
        result = np.moveaxis((result - zero) * scale, 1, -1).reshape(-1, OUT)
        made = np.clip(made, -zero * scale, (255 - zero) * scale)
    np.testing.assert_allclose(made, result.reshape(-1, OUT), atol=0.06)
    assert linear.obstacle is None


@pytest.mark.parametrize("name", [*PRODUCTS, "convolution"])
def test_repair_is_better_than_the_plain_cut_and_stays_in_integers(name: str, bench: type[Bench]) -> None:
    scene = bench(model(PRODUCTS.get(name, convolution)))
    keeping = scene.keep()
    made = scene.stepwise(keeping, StepOptions(everywhere=False))
    assert [note.used for note in made.notes] == [True]
    assert scene.error(keeping, made.replacements) < 0.8 * scene.error(keeping)
    repaired = prune_channels(scene.cut(keeping), made.replacements)
    kinds = [
        sorted(str(numpy_helper.to_array(t).dtype) for t in proto.graph.initializer if t.data_type != 1)
        for proto in (scene.proto, repaired)
    ]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", [*PRODUCTS, "convolution"])
def test_the_one_pass_repair_too(name: str, bench: type[Bench]) -> None:
    scene = bench(model(PRODUCTS.get(name, convolution)))
    keeping = scene.keep()
    outputs = OutputComparison(scene.damage)
    best = repair(scene.cut(keeping), scene.repair_samples(), scene.statistics(), outputs)
    assert scene.error(keeping, best.replacements) < 0.8 * scene.error(keeping)


def test_an_activation_with_scales_that_are_computed_is_left_alone() -> None:
    b = Build(seed=11)
    hidden = b.op("Relu", b.dense(b.input("N", IN), IN, WIDTH))
    weight, scale, zero = stored(b, WIDTH, OUT)
    q, q_scale, q_zero = b.op("DynamicQuantizeLinear", hidden, outputs=3)
    made = b.const(np.float32(0.05)), b.const(np.uint8(119))
    y = b.op("QLinearMatMul", q, q_scale, q_zero, weight, scale, zero, *made)
    case = Case.of(b.proto(b.op("DequantizeLinear", y, *made)))
    assert len(find_linears(case.model.graph, case.graph)) == 1


def test_what_has_no_bias_and_gives_integers_is_scored_but_not_repaired() -> None:
    b = Build(seed=11)
    read, made = ((b.const(np.float32(0.05)), b.const(np.uint8(119))) for _ in range(2))
    hidden = b.op("Relu", b.dense(b.input("N", IN), IN, WIDTH))
    y = b.op("QLinearMatMul", b.op("QuantizeLinear", hidden, *read), *read, *stored(b, WIDTH, OUT), *made)
    case = Case.of(b.proto(b.op("DequantizeLinear", y, *made)))
    linear = find_linears(case.model.graph, case.graph)[-1]
    assert linear.activation_qparams == (pytest.approx(0.05), 119.0)
    assert linear.obstacle == "it is quantized and has no bias"


def test_a_product_of_integers_whose_scale_is_not_found_is_left_alone() -> None:
    b = Build(seed=11)
    hidden = b.op("Relu", b.dense(b.input("N", IN), IN, WIDTH))
    weight, _, zero = stored(b, WIDTH, OUT)
    q, _, q_zero = b.op("DynamicQuantizeLinear", hidden, outputs=3)
    made = b.op("Cast", b.op("MatMulInteger", q, weight, q_zero, zero), to=onnx.TensorProto.FLOAT)
    case = Case.of(b.proto(b.op("Neg", made)))
    linear = find_linears(case.model.graph, case.graph)[-1]
    assert linear.obstacle == "the scale of its weight is not found"
    assert WIDTH not in case.sizes
    assert np.abs(weights_of(case.model, linear)).max() > 100


def packed_model(bias: bool) -> onnx.ModelProto:
    """MatMulNBits: 5 blocks of 16 inputs, of which whole ones are cut."""
    blocks, block = 5, 16
    b = Build(seed=11)
    hidden = b.op("Relu", b.dense(b.input("N", IN), IN, blocks * block))
    weight = b.rng.normal(size=(OUT, blocks, block))
    scale = np.abs(weight).max(axis=-1) / 5
    integers = np.clip(np.rint(weight / scale[..., None]) + 8, 0, 15).astype(np.uint8)
    stored = b.const(integers[..., ::2] | (integers[..., 1::2] << 4))
    inputs = [hidden, stored, b.const(scale), *(("", "", b.vector(OUT)) if bias else ())]
    attributes = {"K": blocks * block, "N": OUT, "bits": 4, "block_size": block}
    return b.proto(b.op("MatMulNBits", *inputs, domain=MS, **attributes), dims=[("N", OUT)])


@pytest.mark.parametrize("bias", [False, True])
def test_weights_of_four_bits(bias: bool, bench: type[Bench]) -> None:
    scene = bench(packed_model(bias))
    linear = scene.linears[-1]
    feeds = scene.case.feeds()
    values = open_session(scene.model.proto, taps=[linear.taps[0], linear.key], optimise=False).run(feeds)
    made = values[linear.taps[0]] @ weights_of(scene.model, linear)[0]
    if bias:
        made = made + linear.biases[0].stored.value(scene.model)
    np.testing.assert_allclose(made, values[linear.key], rtol=1e-3, atol=1e-3)
    assert linear.obstacle is None
    stored = scene.model.graph.constant(linear.weight_name)
    staying = lambda axis: np.arange(stored.shape[axis])  # noqa: E731
    np.testing.assert_array_equal(
        linear.weights.encoded(scene.model, linear.weights.value(scene.model), staying), stored
    )
    keeping = scene.keep()
    assert [kept.count for kept in keeping.values()] == [3]
    repaired = scene.stepwise(keeping, StepOptions(everywhere=False))
    assert [note.used for note in repaired.notes] == [True]
    assert scene.error(keeping, repaired.replacements) < 0.8 * scene.error(keeping)
    tensors = {t.name: t for t in prune_channels(scene.cut(keeping), repaired.replacements).graph.initializer}
    assert [tuple(t.dims) for t in tensors.values() if t.data_type == onnx.TensorProto.UINT8] == [(OUT, 3, 8)]
