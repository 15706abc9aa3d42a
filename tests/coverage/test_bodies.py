"""Bodies of If, Loop and Scan: layers inside, across and around them are cut as if there were no bodies."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.graph.infer import infer
from onnxmi.model import Model
from onnxmi.runtime.probe import probe
from tests.support.bodies import branch, loop, scan
from tests.support.build import Build
from tests.support.oracle import Case, assert_exact, assert_prunes, cut_all

SIZE, HIDDEN, LENGTH, BATCH = 7, 11, 5, 3


def positive(b: Build, x: str) -> str:
    """A condition that depends on the samples."""
    return b.op("Greater", b.op("ReduceSum", x, keepdims=0), b.const(np.array(-1e9, np.float32)))


@pytest.mark.parametrize("inside", [True, False])
def test_a_layer_inside_a_branch(inside: bool) -> None:
    b = Build()
    x = b.input("N", SIZE)

    def deep() -> str:
        return b.gemm(b.op("Relu", b.gemm(x, SIZE, HIDDEN)), HIDDEN, 5)

    y = branch(b, positive(b, x), deep, lambda: b.gemm(x, SIZE, 5), inside=inside)
    assert_prunes(b.proto(y), HIDDEN)


def test_a_layer_that_a_branch_makes_and_the_model_reads() -> None:
    b = Build()
    x = b.input("N", SIZE)
    hidden = branch(
        b, positive(b, x), lambda: b.op("Relu", b.gemm(x, SIZE, HIDDEN)), lambda: b.op("Tanh", b.gemm(x, SIZE, HIDDEN))
    )
    assert_prunes(b.proto(b.gemm(hidden, HIDDEN, 3)), HIDDEN)


def test_a_layer_outside_that_branches_read() -> None:
    b = Build()
    hidden = b.op("Relu", b.gemm(b.input("N", SIZE), SIZE, HIDDEN))
    y = branch(b, positive(b, hidden), lambda: b.gemm(hidden, HIDDEN, 3), lambda: b.gemm(hidden, HIDDEN, 3))
    assert_prunes(b.proto(y), HIDDEN)


def test_branches_that_read_one_weight() -> None:
    """As the merged decoders of optimum do."""
    b = Build()
    x, weight, last = b.input("N", SIZE), b.weight(SIZE, HIDDEN), b.weight(HIDDEN, 3)

    def one(activation: str) -> str:
        return b.op("MatMul", b.op(activation, b.op("MatMul", x, weight)), last)

    assert_prunes(b.proto(branch(b, positive(b, x), lambda: one("Relu"), lambda: one("Tanh"))), HIDDEN)


def test_branches_inside_branches() -> None:
    b = Build()
    hidden = b.op("Relu", b.gemm(b.input("N", SIZE), SIZE, HIDDEN))

    def inner() -> str:
        def deep() -> str:
            return b.gemm(b.op("Relu", b.gemm(hidden, HIDDEN, 13)), 13, 3)

        return branch(b, positive(b, hidden), deep, lambda: b.gemm(hidden, HIDDEN, 3))

    y = branch(b, positive(b, hidden), inner, lambda: b.gemm(hidden, HIDDEN, 3))
    assert_prunes(b.proto(y), HIDDEN, 13)


def cell(b: Build, x: str, state: str) -> str:
    """A recurrence: the state is the hidden layer."""
    return b.op("Tanh", b.op("Add", b.gemm(x, SIZE, HIDDEN), b.op("MatMul", state, b.weight(HIDDEN, HIDDEN))))


@pytest.mark.parametrize("inside", [True, False])
def test_the_state_of_a_loop(inside: bool) -> None:
    b = Build()
    x, start = b.input(LENGTH, BATCH, SIZE), b.const(np.zeros((BATCH, HIDDEN), np.float32))

    def step(iteration: str, state: str) -> list[str]:
        made = cell(b, b.op("Gather", x, iteration, axis=0), state)
        return [made, b.op("Identity", made)]

    last, states = loop(b, LENGTH, step, start, inside=inside)
    y = b.op("Add", b.gemm(last, HIDDEN, 3), b.op("ReduceSum", b.dense(states, HIDDEN, 3), b.ints(0), keepdims=0))
    assert_prunes(b.proto(y, dims=[(BATCH, 3)]), HIDDEN)


def test_a_layer_inside_a_loop() -> None:
    b = Build()
    x = b.input(BATCH, SIZE)

    def step(iteration: str, state: str) -> str:
        return b.op("Add", state, b.gemm(b.op("Relu", b.gemm(state, SIZE, HIDDEN)), HIDDEN, SIZE))

    assert_prunes(b.proto(b.gemm(loop(b, LENGTH, step, b.gemm(x, SIZE, SIZE)), SIZE, 3)), HIDDEN, SIZE)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_state_of_a_scan(axis: int) -> None:
    b = Build()
    x = b.input(*(LENGTH, BATCH)[:: 1 - 2 * axis], SIZE)
    read = b.op("Relu", b.dense(x, SIZE, SIZE))
    start = b.op("Expand", b.const(np.zeros((1, 1), np.float32)), b.ints(BATCH, HIDDEN))

    def step(state: str, slice_: str) -> list[str]:
        made = cell(b, slice_, state)
        return [made, b.op("Identity", made)]

    axes = {"scan_input_axes": [axis], "scan_output_axes": [axis]}
    last, states = scan(b, step, [start], [read], **axes)
    y = b.op("Add", b.gemm(last, HIDDEN, 3), b.op("ReduceSum", b.dense(states, HIDDEN, 3), b.ints(axis), keepdims=0))
    assert_prunes(b.proto(y), SIZE, HIDDEN)


def test_a_loop_inside_a_branch() -> None:
    b = Build()
    x = b.input(BATCH, SIZE)
    start = b.gemm(x, SIZE, HIDDEN)

    def step(iteration: str, state: str) -> str:
        return b.op("Relu", b.op("Add", state, b.gemm(b.op("Tanh", b.gemm(state, HIDDEN, 13)), 13, HIDDEN)))

    y = branch(b, positive(b, x), lambda: loop(b, LENGTH, step, start), lambda: b.op("Relu", start))
    assert_prunes(b.proto(b.gemm(y, HIDDEN, 3)), HIDDEN, 13)


def test_names_that_both_branches_use() -> None:
    b = Build()
    x = b.input("N", SIZE)
    hidden = branch(b, positive(b, x), lambda: b.gemm(x, SIZE, HIDDEN), lambda: b.gemm(x, SIZE, HIDDEN))
    proto = b.proto(b.gemm(hidden, HIDDEN, 3))
    (node,) = (node for node in proto.graph.node if node.op_type == "If")
    then, otherwise = (attribute.g for attribute in node.attribute)
    then.node[0].output[0] = then.output[0].name = otherwise.output[0].name
    for mine, other in zip(then.initializer, otherwise.initializer, strict=True):
        place = list(then.node[0].input).index(mine.name)
        mine.name = then.node[0].input[place] = other.name
    onnx.checker.check_model(proto)
    assert_prunes(proto, HIDDEN)


def test_an_idle_branch_whose_shape_differs_is_told() -> None:
    b = Build()
    x = b.input("N", SIZE)
    hidden = b.op("Relu", b.gemm(x, SIZE, HIDDEN))
    wider = branch(b, positive(b, x), lambda: b.op("Identity", hidden), lambda: b.op("Unsqueeze", hidden, b.ints(1)))
    case = Case.of(b.proto(b.op("MatMul", wider, b.weight(HIDDEN, 3))))
    assert case.sizes == []
    assert "gives shapes that differ" in case.reasons
    assert_exact(case, cut_all(case))


def test_a_branch_inside_a_loop_is_cut() -> None:
    """It runs in every second iteration."""
    b = Build()
    x = b.input(BATCH, SIZE)

    def step(iteration: str, state: str) -> str:
        even = b.op("Equal", b.op("Mod", iteration, b.const(np.array(2))), b.const(np.array(0)))
        deep = branch(
            b, even, lambda: b.gemm(b.op("Relu", b.gemm(state, SIZE, HIDDEN)), HIDDEN, SIZE), lambda: b.op("Neg", state)
        )
        return b.op("Tanh", deep)

    y = b.gemm(b.op("Relu", b.gemm(loop(b, LENGTH, step, x), SIZE, 13)), 13, 3)
    assert_prunes(b.proto(y, dims=[(BATCH, 3)]), HIDDEN, 13)


def test_a_scan_in_which_a_rank_is_not_known_beforehand() -> None:
    """onnxruntime stacks no slices of unknown rank: what is inside is not looked at there, and all else is."""
    b = Build()
    x, sizes = b.input(LENGTH, BATCH, SIZE), b.input(2, name="sizes", dtype=np.int64)
    turned = b.op("Reshape", b.weight(HIDDEN, SIZE), b.op("Compress", sizes, b.const(np.array([True, True]))))

    def step(state: str, slice_: str) -> list[str]:
        made = b.op("Tanh", b.op("Add", b.op("MatMul", slice_, turned), state))
        return [made, b.op("Identity", made)]

    start = b.const(np.zeros((BATCH, HIDDEN), np.float32))
    last, _ = scan(b, step, [start], [b.op("Relu", b.dense(x, SIZE, SIZE))])
    deep = b.gemm(b.op("Relu", b.gemm(last, HIDDEN, 13)), 13, 3)
    case = Case(Model.of(b.proto(deep, dims=[(BATCH, 3)])))
    feeds = {"x": np.ones((LENGTH, BATCH, SIZE), np.float32), "sizes": np.array([SIZE, HIDDEN])}
    shown = probe(case.model, feeds)
    assert {layer.size for layer in infer(case.model, shown).layers} == {13}
