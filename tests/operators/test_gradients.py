"""Every rule against differences of ONNX's reference evaluation in double precision, on odd shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import parser
from onnx.reference import ReferenceEvaluator

from onnxmi.model import Graph
from onnxmi.operators.registry import OPERATORS
from onnxmi.operators.vjp import NoGradientError
from onnxmi.runtime.session import open_session
from onnxmi.statistics.backward import Backward

Floats = NDArray[np.float64]

# The reference evaluates these in single precision, or in some version wrongly or not at all: onnxruntime does those.
RECURRENT = {
    "GRU",
    "GRU, product reset",
    "GRU, states",
    "LSTM",
    "LSTM, cell state",
    "LSTM, lengths",
    "LSTM, peepholes",
    "RNN",
    "RNN, both ways",
}
RUN = {"Attention, all", "LRN", "Pad, cropped"} | RECURRENT
RUN |= {"ConvTranspose, groups", "ConvTranspose, stated", "ConvTranspose, same, short"}
COARSE = {"Erf", "Gelu"} | RUN

# What is written behind "y = "; x has the shape in front, w the second one where there is one. y counts.
CASES: dict[str, tuple[str, str]] = {
    "Abs": ("2,3", "y = Abs(x)"),
    "Add": ("2,3;3", "y = Add(x, w)"),
    "Add, folded": ("3;2,3", "y = Add(x, w)"),
    "Attention": ("2,3,5,4;2,3,7,4", "y = Attention<is_causal=0>(x, w, w)"),
    "Attention, keys": ("2,3,7,4;2,3,5,4", "v = Sin(x) y = Attention<scale=0.7>(w, x, v)"),
    "Attention, all": (
        "2,3,8",
        "k, v = Split<axis=2>(x, int64[2] {4, 4}) y = Attention<is_causal=1, q_num_heads=4, kv_num_heads=2>(x, k, v)",
    ),
    "Atan": ("2,3", "y = Atan(x)"),
    "AveragePool": ("2,3,7,5", "y = AveragePool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]>(x)"),
    "AveragePool, padding": ("2,3,7", "y = AveragePool<kernel_shape=[3], pads=[1,1], count_include_pad=1>(x)"),
    "BatchNormalization": ("2,3,5;3", "a = Abs(w) y = BatchNormalization<epsilon=0.5>(x, w, w, w, a)"),
    "Cast": ("2,3", "y = Cast<to=11>(x)"),
    "Celu": ("2,3", "y = Celu<alpha=0.7>(x)"),
    "Clip": ("5,7", "y = Clip(x, double {-0.5}, double {0.7})"),
    "Concat": ("2,3;2,5", "y = Concat<axis=1>(w, x, x)"),
    "Conv": ("2,3,7,5;5,3,3,2", "y = Conv<strides=[2,1], pads=[1,0,2,1], dilations=[1,2]>(x, w)"),
    "Conv, depthwise": ("2,3,7;3,1,3", "y = Conv<group=3, pads=[1,1]>(x, w)"),
    "Conv, groups": ("2,4,7;6,2,3", "y = Conv<group=2, strides=[2]>(x, w)"),
    "Conv, same": ("1,2,7;3,2,4", 'y = Conv<auto_pad="SAME_LOWER", strides=[2]>(x, w)'),
    "ConvTranspose": ("2,3,5;3,5,3", "y = ConvTranspose<strides=[2], pads=[1,0], output_padding=[1]>(x, w)"),
    "ConvTranspose, same upper": ("2,3,5;3,5,4", 'y = ConvTranspose<auto_pad="SAME_UPPER", strides=[3]>(x, w)'),
    "ConvTranspose, same lower": ("2,3,5;3,5,4", 'y = ConvTranspose<auto_pad="SAME_LOWER", strides=[3]>(x, w)'),
    "ConvTranspose, same, short": ("2,3,5;3,5,2", 'y = ConvTranspose<auto_pad="SAME_UPPER", strides=[3]>(x, w)'),
    "ConvTranspose, valid": ("2,3,5;3,5,4", 'y = ConvTranspose<auto_pad="VALID", strides=[2]>(x, w)'),
    "ConvTranspose, stated": ("2,3,5;3,5,4", "y = ConvTranspose<output_shape=[11], strides=[2]>(x, w)"),
    "ConvTranspose, groups": ("2,4,3;4,2,2", "y = ConvTranspose<group=2, dilations=[2]>(x, w)"),
    "Cos": ("2,3", "y = Cos(x)"),
    "CumSum": ("2,5", "y = CumSum<exclusive=1>(x, int64 {1})"),
    "CumSum, reverse": ("2,5", "y = CumSum<reverse=1>(x, int64 {1})"),
    "DepthToSpace": ("2,12,3,5", 'y = DepthToSpace<blocksize=2, mode="CRD">(x)'),
    "DepthToSpace, depth first": ("2,12,3,5", "y = DepthToSpace<blocksize=2>(x)"),
    "Div": ("2,3;3", "a = Exp(w) y = Div(x, a)"),
    "Div, below": ("3;2,3", "a = Exp(x) y = Div(w, a)"),
    "Dropout": ("2,3", "y = Dropout(x)"),
    "Einsum": ("2,3,5;5,3,7", 'y = Einsum<equation="abc, cbd -> ad">(x, w)'),
    "Elu": ("2,3", "y = Elu<alpha=0.7>(x)"),
    "Erf": ("2,3", "y = Erf(x)"),
    "Exp": ("2,3", "y = Exp(x)"),
    "Expand": ("3,1", "y = Expand(x, int64[3] {2, 1, 5})"),
    "Flatten": ("2,3,5", "y = Flatten<axis=2>(x)"),
    "Gather": ("2,5,3", "y = Gather<axis=1>(x, int64[2,2] {1, 4, -1, 0})"),
    "GatherElements": ("2,5", "y = GatherElements<axis=1>(x, int64[2,3] {1, 1, -1, 0, 4, 2})"),
    "GatherND": ("2,3,5", "y = GatherND<batch_dims=1>(x, int64[2,1] {1, 2})"),
    "Gelu": ("5,7", "y = Gelu(x)"),
    "Gelu, tanh": ("5,7", 'y = Gelu<approximate="tanh">(x)'),
    "Gemm": ("3,2;5,3", "y = Gemm<alpha=0.5, transA=1, transB=1>(x, w)"),
    "Gemm, right": ("5,3;2,3", "a = Gemm<transB=1>(w, x) y = Gemm<beta=0.7, transB=1>(w, x, a)"),
    "Gemm, added": ("5;3,5", "a = Transpose(w) y = Gemm<beta=0.7>(a, w, x)"),
    "GRU": (
        "5,3,2;3,3,3",
        "w1 = Slice(w, int64[1] {0}, int64[1] {1}, int64[1] {0}) wr = Reshape(w1, int64[3] {1, 9, 1})"
        " wi = Concat<axis=2>(wr, wr) rr = Reshape(w, int64[3] {1, 9, 3}) y, h = GRU<hidden_size=3>(x, wi, rr)",
    ),
    "GRU, product reset": (
        "5,3,2;2,9,3",
        "wi, rest = Split<axis=2>(w, int64[2] {2, 1}) b = ReduceSum<keepdims=0>(w, int64[1] {2}) c = Sin(b)"
        " bb = Concat<axis=1>(b, c)"
        ' y, h = GRU<hidden_size=3, direction="bidirectional", linear_before_reset=1>(x, wi, w, bb)',
    ),
    "GRU, states": (
        "2,3,3;2,9,3",
        "z = Constant<value=float[5,3,3] {" + ", ".join(["0.3, -0.7, 0.2"] * 15) + "}>()"
        ' a, y = GRU<hidden_size=3, direction="bidirectional", linear_before_reset=1>(z, w, w, , , x)',
    ),
    "GlobalAveragePool": ("2,3,5,7", "y = GlobalAveragePool(x)"),
    "GlobalMaxPool": ("2,3,5,7", "y = GlobalMaxPool(x)"),
    "HardSigmoid": ("5,7", "y = HardSigmoid<alpha=0.5>(x)"),
    "HardSwish": ("5,7", "a = Mul(x, double {4.0}) y = HardSwish(a)"),
    "Identity": ("2,3", "y = Identity(x)"),
    "InstanceNormalization": ("2,3,5;3", "y = InstanceNormalization<epsilon=0.1>(x, w, w)"),
    "LRN": ("2,7,2,3", "y = LRN<size=5, alpha=2.9, beta=0.6, bias=0.7>(x)"),
    "LSTM": ("5,3,3;1,12,3", "a, h, c = LSTM<hidden_size=3>(x, w, w) b = Sum(h, c) y = Add(a, b)"),
    "LSTM, cell state": (
        "2,3,3;2,12,3",
        "z = Constant<value=float[5,3,3] {" + ", ".join(["0.3, -0.7, 0.2"] * 15) + "}>()"
        ' a, h, y = LSTM<hidden_size=3, direction="bidirectional">(z, w, w, , , x, x)',
    ),
    "LSTM, lengths": (
        "5,3,3;2,12,3",
        "l = Constant<value=int32[3] {5, 2, 4}>() a, h, c = LSTM<hidden_size=3, direction="
        '"bidirectional">(x, w, w, , l) b = Unsqueeze(c, int64[1] {0}) y = Add(a, b)',
    ),
    "LSTM, peepholes": (
        "5,3,3;1,12,3",
        "p = Reshape(w, int64[2] {1, 36}) q, r = Split<axis=1>(p, int64[2] {9, 27})"
        ' y = LSTM<hidden_size=3, direction="reverse">(x, w, w, , , , , q)',
    ),
    "LayerNormalization": ("2,3,5;3,5", "y = LayerNormalization<axis=1, epsilon=0.1>(x, w)"),
    "LeakyRelu": ("5,7", "y = LeakyRelu<alpha=0.3>(x)"),
    "Log": ("2,3", "a = Exp(x) y = Log(a)"),
    "LogSoftmax": ("2,3,5", "y = LogSoftmax<axis=1>(x)"),
    "LpNormalization": ("2,5", "y = LpNormalization<axis=1>(x)"),
    "MatMul": ("2,3,5;5,7", "y = MatMul(x, w)"),
    "MatMul, right": ("2,5,3;7,5", "y = MatMul(w, x)"),
    "MatMul, vector": ("5;2,5,3", "y = MatMul(x, w)"),
    "MatMul, by a vector": ("2,3,5;5", "y = MatMul(x, w)"),
    "MatMul, both": ("5,5", "y = MatMul(x, x)"),
    "Max": ("2,3;3", "y = Max(x, w)"),
    "MaxPool": ("2,3,7,5", "y = MaxPool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]>(x)"),
    "MaxPool, dilated": ("2,3,11", "y = MaxPool<kernel_shape=[3], dilations=[2], ceil_mode=1, strides=[2]>(x)"),
    "Mean": ("2,3;3", "y = Mean(x, w, x)"),
    "Min": ("2,3;3", "y = Min(w, x)"),
    "Mish": ("2,3", "y = Mish(x)"),
    "Mul": ("2,1,3;5,3", "y = Mul(x, w)"),
    "Mul, square": ("2,3", "y = Mul(x, x)"),
    "Neg": ("2,3", "y = Neg(x)"),
    "PRelu": ("2,3,5;3,1", "y = PRelu(x, w)"),
    "PRelu, slope": ("3,1;2,3,5", "y = PRelu(w, x)"),
    "Pad": ("2,3,5", "y = Pad(x, int64[4] {1, 0, 0, 2}, double {0.0}, int64[2] {1, 2})"),
    "Pad, edge": ("2,3,5", 'y = Pad<mode="edge">(x, int64[6] {0, 1, 2, 0, 0, 3})'),
    "Pad, reflect": ("2,5,3", 'y = Pad<mode="reflect">(x, int64[4] {3, 0, 4, 2}, , int64[2] {1, 2})'),
    "Pad, cropped": ("2,7", "y = Pad(x, int64[4] {0, -2, 1, -1})"),
    "Pow": ("2,3", "a = Exp(x) y = Pow(a, double {1.5})"),
    "Pow, power": ("2,3;3", "a = Exp(w) y = Pow(a, x)"),
    "RNN": ("5,3,3;1,3,3", 'y = RNN<hidden_size=3, activations=["Relu"]>(x, w, w)'),
    "RNN, both ways": (
        "5,3,3;2,3,3",
        'y, h = RNN<hidden_size=3, direction="bidirectional", activations=["Tanh", "Sigmoid"]>(x, w, w)',
    ),
    "Reciprocal": ("2,3", "a = Exp(x) y = Reciprocal(a)"),
    "ReduceL2": ("2,3,5", "y = ReduceL2(x, int64[2] {0, -1})"),
    "ReduceMax": ("2,3,5", "y = ReduceMax<keepdims=0>(x, int64[1] {1})"),
    "ReduceMean": ("2,3,5", "y = ReduceMean<keepdims=0>(x, int64[1] {-1})"),
    "ReduceMean, all": ("2,3,5", "y = ReduceMean(x)"),
    "ReduceMin": ("2,3,5", "y = ReduceMin(x, int64[1] {1})"),
    "ReduceSum": ("2,3,5", "y = ReduceSum(x, int64[1] {1})"),
    "ReduceSumSquare": ("2,3,5", "y = ReduceSumSquare(x, int64[1] {1})"),
    "Relu": ("5,7", "y = Relu(x)"),
    "Reshape": ("2,3,5", "y = Reshape(x, int64[2] {0, -1})"),
    "Resize": ("1,2,3,5", "y = Resize(x, , double[4] {1.0, 1.0, 2.0, 2.0})"),
    "Resize, linear": (
        "1,2,3,5",
        'y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , , int64[4] {1, 2, 7, 4})',
    ),
    "Resize, half": ("1,2,5", 'y = Resize<mode="linear">(x, , , int64[3] {1, 2, 13})'),
    "Resize, floor": (
        "1,2,5",
        'y = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , , int64[3] {1, 2, 13})',
    ),
    "Resize, some axes": ("1,2,5", 'y = Resize<axes=[2], mode="linear">(x, , double[1] {0.6})'),
    "ScatterElements": ("2,5;2,3", "y = ScatterElements<axis=1>(x, int64[2,3] {1, 4, -5, 0, 4, 2}, w)"),
    "ScatterElements, updates": (
        "2,3;2,5",
        'y = ScatterElements<axis=1, reduction="add">(w, int64[2,3] {1, 1, -1, 0, 4, 2}, x)',
    ),
    "ReverseSequence": ("5,2,3", "y = ReverseSequence(x, int64[2] {4, 1})"),
    "ReverseSequence, samples first": ("2,5,3", "y = ReverseSequence<batch_axis=0, time_axis=1>(x, int64[2] {2, 5})"),
    "ScatterND": ("5,3;2,3", "y = ScatterND(x, int64[2,1] {1, -1}, w)"),
    "ScatterND, updates": ("2;5,3", "y = ScatterND(w, int64[2,2] {1, 2, 4, 0}, x)"),
    "ScatterND, added": ("5,3;2,3", 'y = ScatterND<reduction="add">(x, int64[2,1] {1, 1}, w)'),
    "Selu": ("2,3", "y = Selu(x)"),
    "Sigmoid": ("2,3", "y = Sigmoid(x)"),
    "Sin": ("2,3", "y = Sin(x)"),
    "Slice": ("5,7", "y = Slice(x, int64[2] {1, -2}, int64[2] {9, -100}, int64[2] {0, 1}, int64[2] {2, -2})"),
    "Softmax": ("2,3,5", "y = Softmax<axis=1>(x)"),
    "Softplus": ("2,3", "y = Softplus(x)"),
    "Softsign": ("2,3", "y = Softsign(x)"),
    "SpaceToDepth": ("2,3,4,6", "y = SpaceToDepth<blocksize=2>(x)"),
    "Split": ("2,7", "a, b, c = Split<axis=1>(x, int64[3] {1, 4, 2}) y = Concat<axis=1>(c, a, a)"),
    "Sqrt": ("2,3", "a = Exp(x) y = Sqrt(a)"),
    "Squeeze": ("2,1,5", "y = Squeeze(x, int64[1] {1})"),
    "Sub": ("2,3;3", "y = Sub(w, x)"),
    "Sum": ("2,3;3", "y = Sum(x, w, x)"),
    "Swish": ("2,3", "y = Swish<alpha=1.3>(x)"),
    "Tanh": ("2,3", "y = Tanh(x)"),
    "ThresholdedRelu": ("5,7", "y = ThresholdedRelu<alpha=0.4>(x)"),
    "Tile": ("2,3", "y = Tile(x, int64[2] {3, 2})"),
    "TopK": ("3,7", "a, i = TopK<axis=1>(x, int64[1] {4}) b = Cast<to=11>(i) y = Mul(a, b)"),
    "TopK, smallest": ("7,3", "y, i = TopK<axis=0, largest=0>(x, int64[1] {2})"),
    "Transpose": ("2,3,5", "y = Transpose<perm=[2,0,1]>(x)"),
    "Transpose, reversed": ("2,3,5", "y = Transpose(x)"),
    "Trilu": ("5,7", "y = Trilu<upper=0>(x, int64 {1})"),
    "Unsqueeze": ("2,3", "y = Unsqueeze(x, int64[1] {1})"),
    "Where": ("2,3;3", "a = Greater(w, double {0.0}) y = Where(a, x, w)"),
    "RMSNormalization": ("2,3,5;5", "y = RMSNormalization<epsilon=0.1>(x, w)"),
}


INLINE = re.compile(r"(?<!=)(?:int64|double)(?:\[\d+(?:,\d+)*\])? \{[^}]*\}")


def graph_of(case: str) -> tuple[onnx.ModelProto, dict[str, Floats]]:
    """The case as a model, and values to feed it; constants stand in the text where they are read."""
    shapes, body = CASES[case]
    names = dict(zip(("x", "w"), shapes.split(";"), strict=False))
    constants = {text: f"c{number}" for number, text in enumerate(dict.fromkeys(INLINE.findall(body)))}
    stored = " ".join(f"{name} = Constant<value = {text}>()" for text, name in constants.items())
    body = INLINE.sub(lambda found: constants[found[0]], body)
    inputs = ", ".join(f"double[{shape}] {name}" for name, shape in names.items())
    kind = "float" if case in RUN else "double"
    inputs = inputs.replace("double", kind)
    text = f'<ir_version: 11, opset_import: ["" : 24]> g ({inputs}) => ({kind} y) {{ {stored} {body} }}'
    rng = np.random.default_rng(7)
    feeds = {name: rng.normal(size=[int(n) for n in shape.split(",")]) for name, shape in names.items()}
    return parser.parse_model(text), feeds


def with_taps(proto: onnx.ModelProto, taps: Iterable[str]) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    del made.graph.output[:]
    made.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in taps)
    return made


def evaluate(proto: onnx.ModelProto, feeds: dict[str, Floats], names: list[str], case: str) -> list[Floats]:
    tapped = with_taps(proto, names)
    if case not in RUN:
        return list(ReferenceEvaluator(tapped).run(None, feeds))
    single = {name: value.astype(np.float32) for name, value in feeds.items()}
    return [value.astype(np.float64) for value in open_session(tapped, optimise=False).run(single).values()]


@pytest.mark.parametrize("case", CASES)
def test_a_rule_gives_what_differences_give(case: str) -> None:
    proto, feeds = graph_of(case)
    backward = Backward(Graph(proto), frozenset({"x"}))
    assert backward.reached == {"x"}

    taps = [name for name in backward.reads if name not in feeds]
    values = feeds | dict(zip(taps, evaluate(proto, feeds, taps, case), strict=True))
    rng = np.random.default_rng(11)
    upper = rng.normal(size=values["y"].shape)
    gradient = backward(values, {"y": upper})["x"]

    assert gradient.shape == feeds["x"].shape
    step, tolerance, nothing = (1e-2, 1e-3, 1e-5) if case in COARSE else (1e-6, 1e-5, 1e-7)
    if case in RECURRENT:  # curved, so the steps are short, and what rounding leaves of them counts
        step, nothing = 3e-3, 1e-3
    for _ in range(5):
        way = rng.normal(size=feeds["x"].shape)
        ahead, behind = (
            evaluate(proto, feeds | {"x": feeds["x"] + sign * step * way}, ["y"], case)[0] for sign in (1, -1)
        )
        expected = float((upper * (ahead - behind)).sum() / (2 * step))
        assert float((gradient * way).sum()) == pytest.approx(expected, rel=tolerance, abs=nothing)


@pytest.mark.parametrize(
    "node",
    [
        'ScatterND<reduction="max">(x, p, x)',
        'Einsum<equation="ab->a">(x)',
        'Einsum<equation="aa->a">(x)',
        'Einsum<equation="a...->..."> (x)',
        "AveragePool<kernel_shape=[3], ceil_mode=1, count_include_pad=1>(x)",
        "LpNormalization<p=1>(x)",
        "BatchNormalization<training_mode=1>(x, p, p, p, p)",
        'Resize<mode="cubic">(x, , , p)',
        "Gather(p, x)",
        "LayerNormalization(p, x)",
        "LSTM(p, x, p)",
        "LSTM<clip=3.0>(x, p, p)",
        "LSTM<input_forget=1>(x, p, p)",
        'GRU<activations=["Softsign", "Tanh"]>(x, p, p)',
    ],
)
def test_settings_and_operands_that_no_rule_knows_end_the_way(node: str) -> None:
    text = f'<ir_version: 11, opset_import: ["" : 24]> g (double[3,3] x, int64[4] p) => (double y) {{ y = {node} }}'
    assert not Backward(Graph(parser.parse_model(text)), frozenset({"x"})).reached


def test_what_a_rule_stumbles_over_is_no_gradient() -> None:
    backward = Backward(Graph(graph_of("Reshape")[0]), frozenset({"x"}))
    values = {"x": np.zeros((2, 3, 5)), "y": np.zeros((2, 15))} | dict.fromkeys(backward.reads, np.zeros(2))
    with pytest.raises(NoGradientError, match="reshape"):
        backward(values | {"x": np.zeros((2, 3, 5))}, {"y": np.zeros((2, 13))})


def test_every_rule_of_the_standard_has_a_case() -> None:
    elsewhere = {"SimplifiedLayerNormalization", "QuantizeLinear", "DequantizeLinear", "CastLike"}
    standard = {op for (domain, op), record in OPERATORS.items() if not domain and record.vjp is not None}
    assert {case.split(",")[0] for case in CASES} >= standard - elsewhere
