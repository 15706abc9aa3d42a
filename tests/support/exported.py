"""Models with bodies in the shapes that exporters give them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tests.support.bodies import branch, loop, scan
from tests.support.build import Build

Arrays = dict[str, np.ndarray]


def _correlated(rng: np.random.Generator, *shape: int, rank: int = 5) -> np.ndarray:
    """Samples with less in them than they have numbers."""
    basis = rng.normal(size=(rank, *shape[1:]))
    mixed = np.tensordot(rng.normal(size=(shape[0], rank)), basis, axes=1) + 0.3 * rng.normal(size=shape)
    return mixed.astype(np.float32)


def keras_gru(units: int = 23, size: int = 7, length: int = 11) -> tuple[onnx.ModelProto, Arrays]:
    """A Keras GRU (reset_after) as tf2onnx writes it: a Loop over time, with a counter and the state."""
    b = Build(seed=11)
    x = b.input("N", length, size)
    first = b.op("Transpose", x, perm=[1, 0, 2])
    batch = b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1), b.ints(0))
    start = b.op("ConstantOfShape", b.op("Concat", batch, b.ints(units), axis=0))
    kernel, recurrent = b.weight(size, 3 * units, fan_in=size), b.weight(units, 3 * units, fan_in=units)
    biases = [b.vector(3 * units) for _ in range(2)]

    def step(iteration: str, time: str, state: str) -> list[str]:
        read = b.op("Gather", first, time, axis=0)
        of_x = b.op("Split", b.op("Add", b.op("MatMul", read, kernel), biases[0]), axis=1, outputs=3)
        of_h = b.op("Split", b.op("Add", b.op("MatMul", state, recurrent), biases[1]), axis=1, outputs=3)
        update, reset = (b.op("Sigmoid", b.op("Add", of_x[n], of_h[n])) for n in (0, 1))
        fresh = b.op("Tanh", b.op("Add", of_x[2], b.op("Mul", reset, of_h[2])))
        kept = b.op("Mul", update, state)
        made = b.op("Add", kept, b.op("Mul", b.op("Sub", b.const(np.array(1.0)), update), fresh))
        return [b.op("Add", time, b.const(np.array(1, np.int32))), made, b.op("Identity", made)]

    zero = b.const(np.array(0, np.int32))
    _, last, states = loop(b, length, step, zero, start, kinds=[np.int32, np.float32], inside=False)
    mean = b.op("ReduceMean", states, axes=[0], keepdims=0)
    y = b.gemm(b.op("Relu", b.gemm(b.op("Add", last, mean), units, 29)), 29, 5)
    return b.proto(y, dims=[("N", 5)]), {"x": _correlated(np.random.default_rng(1), 200, length, size)}


def scan_rnn(units: int = 31, size: int = 7, length: int = 11) -> tuple[onnx.ModelProto, Arrays]:
    """A recurrence with a feed-forward layer in each step, as a Scan."""
    b = Build(seed=12)
    x = b.op("Transpose", b.input("N", length, size), perm=[1, 0, 2])
    batch = b.op("Slice", b.op("Shape", x), b.ints(1), b.ints(2), b.ints(0))
    start = b.op("ConstantOfShape", b.op("Concat", batch, b.ints(units), axis=0))

    def step(state: str, read: str) -> list[str]:
        deep = b.op("Relu", b.op("Add", b.dense(read, size, 37), b.op("MatMul", state, b.weight(units, 37))))
        made = b.op("Tanh", b.dense(deep, 37, units))
        return [made, b.op("Identity", made)]

    last, states = scan(b, step, [start], [x])
    y = b.op("Transpose", b.op("Add", b.dense(states, units, 5), b.gemm(last, units, 5)), perm=[1, 0, 2])
    return b.proto(y, dims=[("N", length, 5)]), {"x": _correlated(np.random.default_rng(2), 200, length, size)}


def nested_if(size: int = 13) -> tuple[onnx.ModelProto, Arrays]:
    """Branches inside branches, chosen by what a sample holds: the model takes one at a time."""
    b = Build(seed=13)
    x = b.input(1, size)
    hidden = b.op("Relu", b.gemm(x, size, 41))
    first, second = (
        b.op(
            "Greater",
            b.op("ReduceSum", b.op("Slice", x, b.ints(n), b.ints(n + 1), b.ints(1)), keepdims=0),
            b.const(0.0),
        )
        for n in (0, 1)
    )

    def deep() -> str:
        inner = branch(
            b,
            second,
            lambda: b.gemm(hidden, 41, 19),
            lambda: b.gemm(b.op("Relu", b.gemm(hidden, 41, 43)), 43, 19),
        )
        return b.op("Relu", inner)

    made = branch(b, first, deep, lambda: b.op("Relu", b.gemm(hidden, 41, 19)))
    proto = b.proto(b.gemm(made, 19, 5), dims=[(1, 5)])
    return proto, {"x": _correlated(np.random.default_rng(3), 600, size)}


def merged_decoder(width: int = 24, heads: int = 3) -> tuple[onnx.ModelProto, Arrays]:
    """A decoder as optimum merges it: an If between a branch with a cache and one without, with the same weights."""
    b, size = Build(seed=14), 8
    x = b.input("N", "S", width, name="x")
    cache = [b.input("N", heads, "P", size, name=f"past_key_values.0.{name}") for name in ("key", "value")]
    flag = b.input(1, name="use_cache_branch", dtype=np.bool_)
    parts = [b.weight(width, heads * size, fan_in=width) for _ in range(3)]
    out, up, down = b.weight(heads * size, width), b.weight(width, 61, fan_in=width), b.weight(61, width, fan_in=61)
    last, vector = b.weight(width, 5), b.vector(61)

    def layer(past: list[str]) -> list[str]:
        rows = [b.reshape(b.op("MatMul", x, part), 0, 0, heads, size) for part in parts]
        q, k, v = (b.op("Transpose", one, perm=[0, 2, 1, 3]) for one in rows)
        if past:
            k, v = (b.op("Concat", before, now, axis=2) for before, now in zip(past, (k, v), strict=True))
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
        mixed = b.op("MatMul", b.op("Softmax", b.op("Mul", scores, b.const(np.array(0.35)))), v)
        mixed = b.reshape(b.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, heads * size)
        h = b.op("Add", x, b.op("MatMul", mixed, out))
        deep = b.op("Relu", b.op("Add", b.op("MatMul", h, up), vector))
        return [
            b.op("MatMul", b.op("Add", h, b.op("MatMul", deep, down)), last),
            b.op("Identity", k),
            b.op("Identity", v),
        ]

    chosen = b.reshape(flag, 1)
    y, key, value = branch(b, chosen, lambda: layer(cache), lambda: layer([]))
    rng = np.random.default_rng(4)
    outputs = [("N", "S", 5), ("N", heads, "T", size), ("N", heads, "T", size)]
    proto = b.proto(y, key, value, dims=outputs)
    arrays = {"x": _correlated(rng, 150, 5, width), "use_cache_branch": np.array([True])}
    arrays |= {name: _correlated(rng, 150, heads, 7, size) for name in cache}
    return proto, arrays


def crnn(op: str = "LSTM", hidden: int = 19) -> tuple[onnx.ModelProto, Arrays]:
    """A recognizer: two convolutions, two bidirectional recurrent layers with the steps first, and logits."""
    b, gates, size = Build(seed=3), {"LSTM": 4, "GRU": 3}[op] * hidden, 17
    x = b.op("Relu", b.conv(b.input("N", 1, 12, 23), 1, 11))
    x = b.op(
        "Relu", b.conv(b.op("MaxPool", x, kernel_shape=[2, 1], strides=[2, 1]), 11, size, (6, 3), pads=[0, 1, 0, 1])
    )
    x = b.op("Transpose", b.op("Squeeze", x, b.ints(2)), perm=[2, 0, 1])
    settings = {"linear_before_reset": 1} if op == "GRU" else {}
    for _ in range(2):
        weights = b.weight(2, gates, size), b.weight(2, gates, hidden), b.weight(2, 2 * gates)
        made = b.op(op, x, *weights, hidden_size=hidden, direction="bidirectional", outputs=2, **settings)[0]
        x, size = b.reshape(b.op("Transpose", made, perm=[0, 2, 1, 3]), 0, 0, 2 * hidden), 2 * hidden
    proto = b.proto(b.dense(x, size, 7), dims=[(23, "N", 7)])
    return proto, {"x": _correlated(np.random.default_rng(5), 200, 1, 12, 23)}


def branches_in_a_loop(units: int = 31, size: int = 7, length: int = 11) -> tuple[onnx.ModelProto, Arrays]:
    """A recurrence whose steps take one of two blocks in turn, one of which holds another If."""
    b = Build(seed=15)
    x = b.op("Transpose", b.input("N", length, size), perm=[1, 0, 2])
    batch = b.op("Slice", b.op("Shape", x), b.ints(1), b.ints(2), b.ints(0))
    start = b.op("ConstantOfShape", b.op("Concat", batch, b.ints(units), axis=0))

    def step(iteration: str, state: str) -> list[str]:
        read = b.op("Gather", x, iteration, axis=0)
        odd = b.op("Cast", b.op("Mod", iteration, b.const(np.array(2))), to=onnx.TensorProto.BOOL)
        late = b.op("Greater", iteration, b.const(np.array(length // 2)))
        total = b.op("Add", b.dense(read, size, units), b.op("MatMul", state, b.weight(units, units)))

        def deep(width: int) -> str:
            return b.op("Tanh", b.dense(b.op("Relu", b.dense(total, units, width)), width, units))

        made = branch(b, odd, lambda: branch(b, late, lambda: deep(37), lambda: deep(41)), lambda: deep(43))
        return [made, b.op("Identity", made)]

    last, states = loop(b, length, step, start)
    y = b.op("Transpose", b.op("Add", b.dense(states, units, 5), b.gemm(last, units, 5)), perm=[1, 0, 2])
    return b.proto(y, dims=[("N", length, 5)]), {"x": _correlated(np.random.default_rng(6), 200, length, size)}


def list_of_steps(units: int = 17, size: int = 7, length: int = 9) -> tuple[onnx.ModelProto, Arrays]:
    """A scripted module that appends its state to a list in a Loop, and stacks the list."""
    b = Build(seed=16)
    x = b.op("Transpose", b.input("N", length, size), perm=[1, 0, 2])
    batch = b.op("Slice", b.op("Shape", x), b.ints(1), b.ints(2), b.ints(0))
    start = b.op("ConstantOfShape", b.op("Concat", batch, b.ints(units), axis=0))
    weight, recurrent = b.weight(size, units, fan_in=size), b.weight(units, units, fan_in=units)
    iteration, going, state, listed = (b.name(stem) for stem in ("iteration", "going", "state", "listed"))
    outside, b.nodes = b.nodes, []
    read = b.op("Gather", x, iteration, axis=0)
    made = b.op("Tanh", b.op("Add", b.op("MatMul", read, weight), b.op("MatMul", state, recurrent)))
    outputs = [b.op("Identity", going), made, b.op("SequenceInsert", listed, made)]
    nodes, b.nodes = b.nodes, outside
    single, sequence = helper.make_tensor_value_info, helper.make_tensor_sequence_value_info
    values = [single(iteration, onnx.TensorProto.INT64, []), single(going, onnx.TensorProto.BOOL, [])]
    values += [single(state, onnx.TensorProto.FLOAT, None), sequence(listed, onnx.TensorProto.FLOAT, None)]
    results = [single(outputs[0], onnx.TensorProto.BOOL, []), single(outputs[1], onnx.TensorProto.FLOAT, None)]
    results.append(sequence(outputs[2], onnx.TensorProto.FLOAT, None))
    body = helper.make_graph(nodes, "steps", values, results)
    given = (b.const(np.array(length)), b.const(np.array(True)), start, b.op("SequenceEmpty", dtype=1))
    stacked = b.op("ConcatFromSequence", b.op("Loop", *given, body=body, outputs=2)[1], axis=0, new_axis=1)
    y = b.op("Transpose", b.dense(b.op("Relu", b.dense(stacked, units, 23)), 23, 5), perm=[1, 0, 2])
    return b.proto(y, dims=[("N", length, 5)]), {"x": _correlated(np.random.default_rng(7), 200, length, size)}


def growing_state(size: int = 7, length: int = 9) -> tuple[onnx.ModelProto, Arrays]:
    """A Loop whose state grows by a row in each iteration, as a cache does."""
    b = Build(seed=17)
    hidden = b.op("Relu", b.dense(b.input("N", length, size), size, 13))
    first = b.op("Slice", hidden, b.ints(0), b.ints(1), b.ints(1))
    up, down = b.weight(13, 21, fan_in=13), b.weight(21, 13, fan_in=21)

    def step(iteration: str, state: str) -> str:
        row = b.op("Unsqueeze", b.op("Gather", hidden, iteration, axis=1), b.ints(1))
        return str(b.op("Concat", state, b.op("MatMul", b.op("Relu", b.op("MatMul", row, up)), down), axis=1))

    made = loop(b, length - 1, step, first)
    proto = b.proto(b.dense(b.op("Relu", b.dense(made, 13, 23)), 23, 5), dims=[("N", length, 5)])
    return proto, {"x": _correlated(np.random.default_rng(8), 200, length, size)}
