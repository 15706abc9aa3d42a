"""Steps for vectors and tokens: dense layers in all their forms, mixers, attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tests.support.random_models.anywhere import activation
from tests.support.random_models.maker import CHANNELS, GROUPED, Flow, Maker


def gemm(m: Maker, x: Flow, out: int | None = None) -> Flow:
    out = out or m.pick(CHANNELS)
    attrs: dict[str, Any] = {}
    if m.flag(0.3):
        attrs |= {"alpha": 0.75, "beta": 1.25}
    if m.flag():
        weight, attrs["transB"] = m.matrix(out, x.channels), 1
    else:
        weight = m.matrix(x.channels, out)
    operands = [x.name, weight]
    form = m.pick(["vector", "vector", "none", "row", "scalar"])
    if form == "vector":
        operands.append(m.vector(out))
    elif form == "row":
        operands.append(m.b.weight(1, out))
    elif form == "scalar":
        operands.append(m.b.const(np.float32(0.3)))
    return Flow(m.op("Gemm", *operands, **attrs), "flat", out)


def turned_gemm(m: Maker, x: Flow) -> Flow:
    """Gemm with transA, on a transposed activation."""
    out = m.pick(CHANNELS)
    made = m.op("Gemm", m.op("Transpose", x.name), m.matrix(x.channels, out), m.vector(out), transA=1)
    return Flow(made, "flat", out)


def matmul(m: Maker, x: Flow, out: int | None = None) -> Flow:
    out = out or m.pick(CHANNELS)
    name = m.op("MatMul", x.name, m.matrix(x.channels, out))
    if m.flag(0.7):
        operands = [name, m.vector(out)]
        m.rng.shuffle(operands)
        name = m.op("Add", *operands)
    return replace(x, name=name, channels=out)


def same_gemm(m: Maker, x: Flow) -> Flow:
    inner = activation(m, gemm(m, x))
    return gemm(m, inner, x.channels)


def same_matmul(m: Maker, x: Flow) -> Flow:
    return matmul(m, matmul(m, x), x.channels)


def to_tokens(m: Maker, x: Flow) -> Flow:
    if x.channels not in GROUPED:
        return to_tokens(m, gemm(m, x, m.pick(GROUPED)))
    rows = m.pick([3, x.channels // 3])
    shape = m.shape_of(x.name, [m.batch_entry(), rows, x.channels // rows])
    return Flow(m.op("Reshape", x.name, shape), "tokens", x.channels // rows, (rows,))


def turn(m: Maker, x: Flow) -> Flow:
    return Flow(m.op("Transpose", x.name, perm=[0, 2, 1]), "tokens", x.space[0], (x.channels,))


def mix(m: Maker, x: Flow) -> Flow:
    """A mixer's layer over the tokens."""
    return turn(m, same_matmul(m, turn(m, x)))


def attention(m: Maker, x: Flow) -> Flow:
    inner, heads = m.pick(GROUPED), 3
    parts = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        made = matmul(m, x, inner).name
        shape = m.shape_of(made, [m.batch_entry(), m.pick([x.space[0], "@1"]), heads, inner // heads])
        parts.append(m.op("Transpose", m.op("Reshape", made, shape), perm=order))
    scores = m.op("Softmax", m.op("Mul", m.op("MatMul", parts[0], parts[1]), m.b.const(np.float32(0.5))), axis=-1)
    mixed = m.op("Transpose", m.op("MatMul", scores, parts[2]), perm=[0, 2, 1, 3])
    shape = m.shape_of(x.name, [m.batch_entry(), x.space[0], inner])
    return matmul(m, replace(x, name=m.op("Reshape", mixed, shape), channels=inner), x.channels)


def flatten_tokens(m: Maker, x: Flow) -> Flow:
    if m.flag():
        return Flow(m.op("Flatten", x.name), "flat", x.channels * x.space[0])
    shape = m.shape_of(x.name, [m.batch_entry(), x.channels * x.space[0]])
    return Flow(m.op("Reshape", x.name, shape), "flat", x.channels * x.space[0])


def mean_tokens(m: Maker, x: Flow) -> Flow:
    op = m.pick(["ReduceMean", "ReduceSum"])
    if op == "ReduceMean":
        return Flow(m.op(op, x.name, axes=[1], keepdims=0), "flat", x.channels)
    return Flow(m.op(op, x.name, m.literal([1]), keepdims=0), "flat", x.channels)


def batch_norm(m: Maker, x: Flow) -> Flow:
    variance = m.b.const(m.b.rng.uniform(0.5, 2.0, size=x.channels))
    operands = [m.vector(x.channels), m.vector(x.channels), m.b.vector(x.channels), variance]
    return replace(x, name=m.op("BatchNormalization", x.name, *operands))


def layer_norm(m: Maker, x: Flow) -> Flow:
    """Over the channels, in one operator or written out."""
    scale, shift = m.b.const(m.b.rng.uniform(0.5, 1.5, size=x.channels)), m.vector(x.channels)
    form = m.pick(["standard", "standard", "plain", "written"])
    if form == "standard":
        return replace(x, name=m.op("LayerNormalization", x.name, scale, shift, axis=-1, epsilon=0.1))
    if form == "plain":
        return replace(x, name=m.op("LayerNormalization", x.name, scale, axis=-1, epsilon=0.1))
    centred = m.op("Sub", x.name, m.op("ReduceMean", x.name, axes=[-1]))
    variance = m.op("ReduceMean", m.op("Mul", centred, centred), axes=[-1])
    deviation = m.op("Sqrt", m.op("Add", variance, m.b.const(np.float32(0.1))))
    return replace(x, name=m.op("Mul", m.op("Div", centred, deviation), scale))


def einsum(m: Maker, x: Flow) -> Flow:
    out = m.pick(CHANNELS)
    equation = "btc,cd->btd" if x.kind == "tokens" else "bc,cd->bd"
    return replace(x, name=m.op("Einsum", x.name, m.matrix(x.channels, out), equation=equation), channels=out)


def recurrent(m: Maker, x: Flow) -> Flow:
    """Along the tokens, one way or both."""
    op, gates = m.pick([("GRU", 3), ("LSTM", 4), ("RNN", 1)])
    hidden, both = m.pick([5, 7]), m.flag()
    ways = 2 if both else 1
    weights = [m.b.weight(ways, gates * hidden, x.channels), m.b.weight(ways, gates * hidden, hidden)]
    operands = [m.op("Transpose", x.name, perm=[1, 0, 2]), *weights]
    if m.flag():
        operands.append(m.b.weight(ways, 2 * gates * hidden, fan_in=4))
    attrs: dict[str, Any] = {"direction": "bidirectional"} if both else {}
    made = m.op(op, *operands, hidden_size=hidden, **attrs)
    if both:
        shape = m.shape_of(x.name, ["@1", "@0", ways * hidden])
        flat = m.op("Reshape", m.op("Transpose", made, perm=[0, 2, 1, 3]), shape)
    else:
        flat = m.op("Squeeze", made, m.literal([1]))
    return replace(x, name=m.op("Transpose", flat, perm=[1, 0, 2]), channels=ways * hidden)


def dequantised(m: Maker, x: Flow) -> Flow:
    """A weight stored in 8 bits with a scale for each of its outputs."""
    out = m.pick(CHANNELS)
    stored = m.b.const(m.b.rng.integers(-127, 128, size=(x.channels, out)).astype(np.int8))
    scales = m.b.const(m.b.rng.uniform(0.002, 0.01, size=out))
    zeros = m.b.const(np.zeros(out, np.int8))
    weight = m.op("DequantizeLinear", stored, scales, zeros, axis=1)
    return replace(x, name=m.op("MatMul", x.name, weight), channels=out)


def cumulated(m: Maker, x: Flow) -> Flow:
    """Sums over the tokens so far."""
    return replace(x, name=m.op("Tanh", m.op("CumSum", x.name, m.b.const(np.int64(1)))))


def largest_token(m: Maker, x: Flow) -> Flow:
    op = m.pick(["ReduceMean", "ReduceL2"] if m.smooth else ["ReduceMax", "ReduceMin", "ReduceL2"])
    return Flow(m.op(op, x.name, axes=[1], keepdims=0), "flat", x.channels)


def first_token(m: Maker, x: Flow) -> Flow:
    if m.smooth:
        return mean_tokens(m, x)
    return Flow(m.op("Gather", x.name, m.b.const(np.int64(m.pick([0, -1]))), axis=1), "flat", x.channels)
