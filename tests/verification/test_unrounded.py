"""Quantized models without their rounding: they mean the same, and cuts of them are compared as closely as floats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxmi.model import Graph
from onnxmi.runtime.probe import run_types
from onnxmi.verification.agreement import STEPS
from onnxmi.verification.checks import check_equivalence
from onnxmi.verification.unrounded import _ROUNDING, TensorType, rounds_activations, without_rounding
from tests.support.build import Build
from tests.support.oracle import Case, cut_all, run

MS, IN, HIDDEN, OUT, SIDE = "com.microsoft", 7, 11, 5, 3


class Quantized(Build):
    """A builder with the scales and zero points of 8 bits."""

    def scale(self, value: float, count: int | None = None) -> str:
        return self.const(np.full(() if count is None else count, value, np.float32))

    def zero(self, value: int, kind: type = np.uint8, count: int | None = None) -> str:
        return self.const(np.full(() if count is None else count, value, kind))

    def bytes(self, *shape: int) -> str:
        return self.const(self.rng.integers(-127, 127, size=shape).astype(np.int8))

    def quantized(self, x: str, scale: float = 0.03, zero: int = 117) -> tuple[str, str, str]:
        parameters = self.scale(scale), self.zero(zero)
        return self.op("QuantizeLinear", x, *parameters), *parameters

    def images(self) -> str:
        return self.conv(self.input("N", IN, SIDE, SIDE), IN, HIDDEN, (1, 1))

    def hidden(self) -> str:
        return self.gemm(self.input("N", IN), IN, HIDDEN)

    def weights(self, *shape: int, axis: int, each: bool) -> tuple[str, str, str]:
        count = shape[axis] if each else None
        return self.bytes(*shape), self.scale(0.01, count), self.zero(0, np.int8, count)


def qdq(b: Quantized) -> str:
    value, *parameters = b.quantized(b.hidden())
    return b.gemm(b.op("DequantizeLinear", value, *parameters), HIDDEN, OUT)


def dynamic(b: Quantized) -> str:
    value, scale, zero = b.op("DynamicQuantizeLinear", b.hidden(), outputs=3)
    product = b.op("MatMulInteger", value, b.bytes(HIDDEN, OUT), zero, b.zero(3, np.int8, OUT))
    return b.op("Mul", b.op("Cast", product, to=1), b.op("Mul", scale, b.scale(0.02)))


def dynamic_images(b: Quantized) -> str:
    value, scale, zero = b.op("DynamicQuantizeLinear", b.images(), outputs=3)
    product = b.op("ConvInteger", value, b.bytes(OUT, HIDDEN, 1, 1), zero, b.zero(0, np.int8))
    return b.op("Mul", b.op("Cast", product, to=1), b.op("Mul", scale, b.scale(0.02)))


def qlinear(b: Quantized, each: bool = True) -> str:
    left, weights = b.quantized(b.hidden()), b.weights(HIDDEN, OUT, axis=1, each=each)
    going = b.scale(0.3), b.zero(100)
    return b.op("DequantizeLinear", b.op("QLinearMatMul", *left, *weights, *going), *going)


def qlinear_images(b: Quantized) -> str:
    left, weights = b.quantized(b.images()), b.weights(OUT, HIDDEN, 1, 1, axis=0, each=True)
    going, bias = (b.scale(0.3), b.zero(100)), b.const(b.rng.integers(-99, 99, size=OUT).astype(np.int32))
    return b.op("DequantizeLinear", b.op("QLinearConv", *left, *weights, *going, bias), *going)


def dense(b: Quantized, turned: bool, last: bool = False) -> str:
    left, scale, shape = b.quantized(b.hidden()), b.scale(0.01, OUT), (OUT, HIDDEN) if turned else (HIDDEN, OUT)
    bias = b.const(b.rng.integers(-99, 99, size=OUT).astype(np.int32))
    weights = b.bytes(*shape), scale, b.zero(0, np.int8, OUT)
    going = () if last else (b.scale(0.3), b.zero(100))
    made = b.op("QGemm", *left, *weights, bias, *going, transB=int(turned), domain=MS)
    return made if last else b.op("DequantizeLinear", made, *going)


def recurrent(b: Quantized, each: bool) -> str:
    """Of one direction or two, with scales for each or for each of their gates."""
    ways, gates = 2 - each, 4 * HIDDEN
    steps = b.op("Unsqueeze", b.hidden(), b.ints(0))
    scales = [b.const(b.rng.uniform(0.003, 0.006, size=(ways, gates) if each else (ways,))) for _ in range(2)]
    none = b.const(np.zeros((ways, gates) if each else (ways,), np.int8))
    stored = b.bytes(ways, HIDDEN, gates), b.bytes(ways, HIDDEN, gates), b.weight(ways, 2 * gates, fan_in=1)
    attributes = {"hidden_size": HIDDEN, "direction": "forward" if each else "bidirectional", "domain": MS}
    parameters = scales[0], none, scales[1], none
    made = b.op("DynamicQuantizeLSTM", steps, *stored, "", "", "", "", *parameters, outputs=3, **attributes)
    return b.gemm(b.op("Reshape", made[1], b.ints(-1, HIDDEN)), HIDDEN, OUT)


def to_float(b: Quantized) -> str:
    value, scale, zero = b.op("DynamicQuantizeLinear", b.hidden(), outputs=3)
    stored, factor, none = b.weights(HIDDEN, OUT, axis=1, each=True)
    return b.op("MatMulIntegerToFloat", value, stored, scale, factor, zero, none, b.vector(OUT), domain=MS)


def in_one(b: Quantized) -> str:
    return b.op("DynamicQuantizeMatMul", b.hidden(), *b.weights(HIDDEN, OUT, axis=1, each=True), domain=MS)


def packed(b: Quantized) -> str:
    hidden = b.op("Relu", b.gemm(b.input(SIDE, IN), IN, 48))
    stored = b.const(b.rng.integers(0, 255, size=(OUT, 3, 8)).astype(np.uint8))
    attributes = {"N": OUT, "K": 48, "bits": 4, "block_size": 16, "accuracy_level": 4, "domain": MS}
    return b.op("MatMulNBits", hidden, stored, b.const(b.rng.uniform(0.01, 0.1, size=OUT * 3)), **attributes)


def binary(op: str) -> Callable[[Quantized], str]:
    def make(b: Quantized) -> str:
        one = b.quantized(b.hidden())
        going = b.scale(0.1), b.zero(90)
        made = b.op("DequantizeLinear", b.op(op, *one, *one, *going, domain=MS), *going)
        return b.gemm(made, HIDDEN, OUT)

    return make


def unary(op: str, **attributes: object) -> Callable[[Quantized], str]:
    def make(b: Quantized) -> str:
        one = b.quantized(b.images(), 0.05)
        going = b.scale(0.05), b.zero(90)
        made = b.op("DequantizeLinear", b.op(op, *one, *going, domain=MS, **attributes), *going)
        return b.conv(made, HIDDEN, OUT, (1, 1))

    return make


def concat(b: Quantized) -> str:
    one = b.quantized(b.hidden())
    going = b.scale(0.1), b.zero(90)
    made = b.op("DequantizeLinear", b.op("QLinearConcat", *going, *one, *one, axis=1, domain=MS), *going)
    return b.gemm(made, 2 * HIDDEN, OUT)


def moved(b: Quantized) -> str:
    """What is moved about between the rounding and its end."""
    value, *parameters = b.quantized(b.images())
    value = b.op("MaxPool", value, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    value = b.op("Transpose", b.op("Pad", value, b.ints(0, 0, 0, 0, 0, 0, 1, 1), parameters[1]), perm=[0, 2, 3, 1])
    return b.dense(b.op("DequantizeLinear", value, *parameters), HIDDEN, OUT)


CASES: dict[str, Callable[[Quantized], str]] = {
    "qdq": qdq,
    "dynamic": dynamic,
    "dynamic images": dynamic_images,
    "qlinear": lambda b: qlinear(b, each=False),
    "qlinear, a scale each": qlinear,
    "qlinear images": qlinear_images,
    "dense": lambda b: dense(b, turned=False),
    "dense, turned": lambda b: dense(b, turned=True),
    "dense, to float": lambda b: dense(b, turned=True, last=True),
    "recurrent": lambda b: recurrent(b, each=False),
    "recurrent, a scale each": lambda b: recurrent(b, each=True),
    "to float": to_float,
    "in one": in_one,
    "packed": packed,
    "moved": moved,
    "concat": concat,
    **{op: binary(op) for op in ("QLinearAdd", "QLinearMul")},
    "QLinearLeakyRelu": unary("QLinearLeakyRelu", alpha=0.1),
    "QLinearSigmoid": unary("QLinearSigmoid"),
    "QLinearAveragePool": unary("QLinearAveragePool", kernel_shape=[2, 2]),
    "QLinearGlobalAveragePool": unary("QLinearGlobalAveragePool"),
    "QLinearSoftmax": unary("QLinearSoftmax", axis=1, opset=17),
}


def model_of(name: str) -> onnx.ModelProto:
    b = Quantized(seed=5)
    out = CASES[name](b)
    feeds = {
        "x": np.zeros((SIDE, IN, SIDE, SIDE) if "Conv" in [n.op_type for n in b.nodes] else (SIDE, IN), np.float32)
    }
    (made,) = run(b.proto(out), feeds)
    return b.proto(out, dims=[("N" if name != "packed" else SIDE, *made.shape[1:])])


def test_every_operator_that_rounds_is_tried() -> None:
    tried = {(node.domain, node.op) for name in CASES for node in Graph(model_of(name)).nodes}
    elsewhere = {(MS, "QuantizeLinear"), (MS, "QLinearConv"), (MS, "QLinearMatMul")}  # the same as the standard ones
    assert tried | elsewhere >= _ROUNDING


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_without_rounding_is_the_same_but_for_the_rounding(name: str) -> None:
    case = Case.of(model_of(name))
    feeds, proto, graph = case.feeds(), case.model.proto, case.model.graph
    assert rounds_activations(proto)
    seen = {tensor: TensorType(*found) for tensor, found in run_types(proto, feeds).items()}
    seen |= {tensor: TensorType(value.dtype, value.shape) for tensor, value in feeds.items()}
    seen |= {
        tensor: TensorType(graph.constant_dtype(tensor), graph.constant_shape(tensor)) for tensor in graph.constants
    }
    found = without_rounding(proto, seen)
    assert found is not None
    assert found.complete
    (wanted,), (got,) = run(proto, feeds), run(found.proto, feeds)
    gap = np.abs(wanted - got).max() / np.abs(wanted).max()
    assert 0 < gap < 0.05


@pytest.mark.parametrize("name", CASES)
def test_a_right_cut_agrees_as_floats_do_and_a_wrong_one_is_caught(name: str) -> None:
    case = Case.of(model_of(name))
    layers = case.graph.layers
    assert bool(layers) == (name != "QLinearSoftmax")  # its channels are mixed
    if layers:
        keeping = cut_all(case, drop=2 if name != "packed" else 1)
        cut, feeds = case.cut(keeping), [case.feeds()]
        args = case.model, case.graph, case.probe, keeping
        right = check_equivalence(*args, cut, feeds)
        assert right.passed, right.detail
        assert "(allowed 1e-04)" in right.detail
        tensor = next(t for t in cut.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1)
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.003), tensor.name))  # less than a step
        wrong = check_equivalence(*args, cut, feeds)
        assert not wrong.passed, wrong.detail


def deep(b: Quantized) -> str:
    x = b.input("N", IN)
    for size in (HIDDEN, 13, HIDDEN, 13, HIDDEN):
        wide = b.gemm(x, IN if x == "x" else size_before(size), size)
        value, *parameters = b.quantized(wide, 0.15)
        x = b.op("DequantizeLinear", value, *parameters)
    return b.gemm(x, HIDDEN, OUT)


def size_before(size: int) -> int:
    return 13 if size == HIDDEN else HIDDEN


def test_rounding_that_decides_otherwise_is_no_wrong_rewrite() -> None:
    """Where a sum falls between two steps, its order decides; layer by layer that adds up to more than a step."""
    b = Quantized(seed=5)
    case = Case.of(b.proto(deep(b)))
    keeping = cut_all(case, drop=2)
    masked, cut = case.masked(keeping), case.cut(keeping)
    for tensor in cut.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 2:  # in the last bits, as another order of the sums would
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1 + 3e-6), tensor.name))
    feeds = [{"x": np.random.default_rng(seed).normal(size=(997, IN)).astype(np.float32)} for seed in range(3)]
    pairs = [(run(masked, feed)[0], run(cut, feed)[0]) for feed in feeds]
    assert max(np.abs(wanted - got).max() / np.abs(wanted).max() for wanted, got in pairs) > STEPS
    checked = check_equivalence(case.model, case.graph, case.probe, keeping, cut, feeds)
    assert checked.passed, checked.detail


def test_a_wrong_scale_is_caught_though_it_cancels_without_rounding() -> None:
    case = Case.of(model_of("qdq"))
    keeping = cut_all(case, drop=2)
    cut = case.cut(keeping)
    scale = next(t for t in cut.graph.initializer if onnx.numpy_helper.to_array(t).size == 1)
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.6), scale.name))
    args = case.model, case.graph, case.probe, keeping, cut, [case.feeds()]
    assert not check_equivalence(*args).passed


def test_results_of_integers_may_be_a_step_apart() -> None:
    b = Quantized(seed=5)
    qlinear(b)
    proto = b.proto(b.nodes[-2].output[0], dims=[("N", OUT)])
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    case = Case.of(proto)
    keeping = cut_all(case, drop=2)
    cut = case.cut(keeping)
    args = case.model, case.graph, case.probe, keeping
    assert check_equivalence(*args, cut, [case.feeds()]).passed
    zero = next(
        t
        for t in cut.graph.initializer
        if onnx.numpy_helper.to_array(t).size == 1 and onnx.numpy_helper.to_array(t) == 100
    )
    zero.CopyFrom(onnx.numpy_helper.from_array(np.uint8(101), zero.name))
    assert not check_equivalence(*args, cut, [case.feeds()]).passed
