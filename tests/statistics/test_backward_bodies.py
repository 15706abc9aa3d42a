"""Gradients go back through the branches and iterations of bodies, against differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxmi.model import Graph, Model
from onnxmi.runtime.session import open_session
from onnxmi.statistics.backward import Backward
from tests.support.bodies import branch, loop, scan
from tests.support.build import Build

STEPS, BATCH, SIZE, HIDDEN, EPSILON = 5, 3, 2, 7, 1e-2
Made = tuple[onnx.ModelProto, str]


def dense(b: Build, x: str, k: int, m: int) -> str:
    return b.op("Tanh", b.dense(x, k, m))


def branches(sign: int) -> Made:
    b = Build(seed=1)
    x = b.input(BATCH, SIZE)
    above = b.op("Greater", b.op("ReduceSum", x, keepdims=0), b.const(np.array(-1e9 * sign)))
    made: list[str] = []

    def one(activation: str) -> str:
        made.append(b.dense(x, SIZE, HIDDEN))
        return b.op("Mul", b.op(activation, made[-1]), total)

    total = b.op("ReduceSum", x, b.ints(1))
    y = branch(b, above, lambda: one("Sigmoid"), lambda: one("Tanh"))
    return b.proto(b.dense(y, HIDDEN, 3)), made[0 if sign > 0 else 1]


def a_loop() -> Made:
    b = Build(seed=1)
    x = b.input(STEPS, BATCH, SIZE)
    state = b.op("ReduceMean", b.op("MatMul", x, b.weight(SIZE, HIDDEN)), axes=[0], keepdims=0)
    made: list[str] = []

    def step(iteration: str, state: str) -> list[str]:
        read = b.op("Gather", x, iteration, axis=0)
        made.append(b.op("Add", b.dense(read, SIZE, HIDDEN), b.op("MatMul", state, b.weight(HIDDEN, HIDDEN))))
        after = b.op("Tanh", made[0])
        return [after, b.op("Mul", after, b.op("ReduceSum", read, b.ints(1)))]

    last, states = loop(b, STEPS, step, state)
    return b.proto(b.op("Add", b.dense(last, HIDDEN, 3), b.dense(states, HIDDEN, 3))), made[0]


def a_scan(**directions: list[int]) -> Made:
    b = Build(seed=1)
    x = b.input(BATCH, STEPS, SIZE)
    read = dense(b, x, SIZE, SIZE)
    made: list[str] = []

    def step(state: str, slice_: str) -> list[str]:
        made.append(b.op("Add", b.dense(slice_, SIZE, HIDDEN), b.op("MatMul", state, b.weight(HIDDEN, HIDDEN))))
        after = b.op("Tanh", made[0])
        return [after, b.op("Identity", after)]

    start = b.const(np.zeros((BATCH, HIDDEN), np.float32))
    last, states = scan(b, step, [start], [read], scan_input_axes=[1], scan_output_axes=[1], **directions)
    return b.proto(
        b.op("Add", b.dense(states, HIDDEN, 3), b.op("Unsqueeze", b.dense(last, HIDDEN, 3), b.ints(1)))
    ), made[0]


def a_branch_in_a_loop(nested: bool = False) -> Made:
    """Odd iterations take one branch, even ones the other; in a nested one, sums of what is read decide, too."""
    b = Build(seed=1)
    x = b.input(STEPS, BATCH, SIZE)
    state = b.op("ReduceMean", b.op("MatMul", x, b.weight(SIZE, HIDDEN)), axes=[0], keepdims=0)
    made: list[str] = []

    def step(iteration: str, state: str) -> list[str]:
        read = b.op("Gather", x, iteration, axis=0)
        odd = b.op("Cast", b.op("Mod", iteration, b.const(np.array(2))), to=onnx.TensorProto.BOOL)
        above = b.op("Greater", b.op("ReduceSum", read, keepdims=0), b.const(np.array(0.0)))

        def one() -> str:
            made.append(b.op("Add", b.dense(read, SIZE, HIDDEN), b.op("MatMul", state, b.weight(HIDDEN, HIDDEN))))
            return b.op("Sigmoid", made[0])

        def other() -> str:
            return b.op("Tanh", b.dense(state, HIDDEN, HIDDEN))

        after = branch(b, odd, (lambda: branch(b, above, one, other)) if nested else one, other)
        return [after, b.op("Mul", after, b.op("ReduceSum", read, b.ints(1)))]

    last, states = loop(b, STEPS, step, state)
    return b.proto(b.op("Add", b.dense(last, HIDDEN, 3), b.dense(states, HIDDEN, 3))), made[0]


CASES: dict[str, Callable[[], Made]] = {
    "then": lambda: branches(1),
    "else": lambda: branches(-1),
    "loop": a_loop,
    "scan": a_scan,
    "scan from the end": lambda: a_scan(scan_input_directions=[1]),
    "scan to the start": lambda: a_scan(scan_output_directions=[1]),
    "branch in a loop": a_branch_in_a_loop,
    "branches in a loop": lambda: a_branch_in_a_loop(nested=True),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_inputs_and_of_what_is_inside_a_body(case: str) -> None:
    proto, inner = CASES[case]()
    graph = Model.of(proto).graph
    output = graph.outputs[0].name
    backward = Backward(graph, frozenset({"x", inner}))
    assert backward.reached == {"x", inner}
    normal = Model.of(proto).proto
    taps = [name for name in (*backward.reads, output, inner) if name != "x"]
    session = open_session(normal, taps=list(dict.fromkeys(taps)), optimise=False)
    rng = np.random.default_rng(3)
    shape = [int(dim) for dim in graph.inputs[0].dims or ()]
    x = rng.normal(size=shape).astype(np.float32)
    seen = session.see({"x": x})
    values = {"x": x, **{name: one.by_sample for name, one in seen.items()}}
    upper = rng.normal(size=values[output].shape).astype(np.float32)
    iterations = {name: one for name, one in seen.items() if one.loops}
    found = backward(values, {output: upper}, iterations)

    whole = open_session(normal, optimise=False)
    for _ in range(3):
        way = rng.normal(size=shape)
        ahead, behind = (
            whole.run({"x": (x + sign * EPSILON * way).astype(np.float32)})[output].astype(np.float64)
            for sign in (1, -1)
        )
        expected = float((upper * (ahead - behind)).sum() / (2 * EPSILON))
        assert float((found["x"] * way).sum()) == pytest.approx(expected, rel=5e-3, abs=5e-3)

    assert found[inner].shape == values[inner].shape
    of_bias = np.sum(found[inner], axis=tuple(range(found[inner].ndim - 1)))  # which is added in every iteration
    name = _bias_of(graph, inner)
    for unit in (0, 3, HIDDEN - 1):
        moved = (open_session(_moved(normal, name, unit, sign * EPSILON), optimise=False) for sign in (1, -1))
        ahead, behind = (one.run({"x": x})[output].astype(np.float64) for one in moved)
        expected = float((upper * (ahead - behind)).sum() / (2 * EPSILON))
        assert of_bias[unit] == pytest.approx(expected, rel=5e-3, abs=5e-3)


def _bias_of(graph: Graph, name: str) -> str:
    node = graph.producers[name]
    stored = [name for name in node.inputs if graph.is_constant(name)]
    return stored[0] if stored else _bias_of(graph, node.inputs[0])


def _moved(proto: onnx.ModelProto, name: str, unit: int, by: float) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    tensor = next(tensor for tensor in made.graph.initializer if tensor.name == name)
    value = numpy_helper.to_array(tensor).copy()
    value[unit] += by
    tensor.CopyFrom(numpy_helper.from_array(value, name))
    return made
