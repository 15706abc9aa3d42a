"""The normal form of models with bodies, and taps on what is inside."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxmi.model import Graph, Model
from onnxmi.model.bodies import is_normal, nested_nodes, normalized
from onnxmi.model.taps import Seen
from onnxmi.runtime.session import open_session
from tests.support import exported
from tests.support.bodies import branch, loop
from tests.support.build import Build

STEPS, BATCH, SIZE = 5, 3, 7


@pytest.mark.parametrize("name", ["keras_gru", "scan_rnn", "nested_if", "merged_decoder"])
def test_the_normal_form_computes_the_same(name: str) -> None:
    proto, arrays = getattr(exported, name)()
    made = normalized(proto)
    assert is_normal(made)
    onnx.checker.check_model(made, full_check=True)
    count = 1 if name == "nested_if" else 4
    feeds = {key: value if len(value) == 1 else value[:count] for key, value in arrays.items()}
    before, after = (open_session(one, optimise=False).run(feeds) for one in (proto, made))
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, rtol=1e-5, atol=1e-6)


def test_a_model_without_bodies_stays_as_it_is() -> None:
    b = Build()
    proto = b.proto(b.gemm(b.input("N", SIZE), SIZE, 3))
    assert normalized(proto) is proto


def test_what_a_branch_stores_and_gives_is_made_by_a_node() -> None:
    b = Build()
    x = b.input(1, dtype=np.bool_)
    proto = b.proto(branch(b, x, lambda: b.vector(5), lambda: b.op("Neg", b.vector(5))), dims=[(5,)])
    made = normalized(proto)
    assert is_normal(made)
    for flag in (True, False):
        feeds = {"x": np.array([flag])}
        before, after = (open_session(one).run(feeds) for one in (proto, made))
        np.testing.assert_array_equal(*before.values(), *after.values())


def test_nodes_of_a_body_come_before_the_node_that_it_is_of() -> None:
    graph = Model.of(exported.merged_decoder()[0]).graph
    (owner,) = (node for node in graph.nodes if node.bodies)
    assert all(index < owner.index for body in owner.bodies for index in body.nodes)
    assert [node.op_type for node in nested_nodes(graph._proto.graph)] == [node.op for node in graph.nodes]


def test_bodies_of_an_unknown_operator_are_not_shown() -> None:
    body = helper.make_graph(
        [helper.make_node("Neg", ["a"], ["b"])],
        "body",
        [helper.make_tensor_value_info("a", 1, None)],
        [helper.make_tensor_value_info("b", 1, None)],
    )
    nodes = [
        helper.make_node("SequenceConstruct", ["x"], ["s"]),
        helper.make_node("SequenceMap", ["s"], ["t"], body=body),
        helper.make_node("ConcatFromSequence", ["t"], ["y"], axis=0),
    ]
    x, y = (helper.make_tensor_value_info(name, 1, [3]) for name in "xy")
    proto = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    assert normalized(proto) is proto
    assert not any(node.depth for node in Graph(proto).nodes)


def test_a_tap_inside_a_loop_shows_all_iterations_sample_by_sample() -> None:
    b = Build()
    x = b.input(STEPS, BATCH, SIZE)
    made: list[str] = []

    def step(iteration: str, state: str) -> str:
        made.append(b.op("Mul", b.op("Gather", x, iteration, axis=0), b.const(np.array(2.0))))
        return b.op("Add", state, made[0])

    proto = Model.of(b.proto(loop(b, STEPS, step, b.const(np.zeros((BATCH, SIZE), np.float32))), dims=[(3, 7)])).proto
    feed = np.random.default_rng(1).normal(size=(STEPS, BATCH, SIZE)).astype(np.float32)
    session = open_session(proto, taps=made[:1], optimise=False)
    seen = session.see({"x": feed})[made[0]]
    np.testing.assert_array_equal(seen.value, 2 * feed)
    assert seen.shape == (BATCH, SIZE)
    rows = session.run({"x": feed})[made[0]].reshape(BATCH, STEPS, SIZE)
    np.testing.assert_array_equal(rows, 2 * feed.swapaxes(0, 1))


def test_a_tap_inside_a_branch_shows_it_where_it_is_taken() -> None:
    b = Build()
    x = b.input(1, SIZE)
    made: list[str] = []

    def one(op: str) -> str:
        made.append(b.op(op, x))
        return b.op("Neg", made[-1])

    y = branch(
        b, b.op("Greater", b.op("ReduceSum", x, keepdims=0), b.const(0.0)), lambda: one("Exp"), lambda: one("Sin")
    )
    session = open_session(Model.of(b.proto(y, dims=[(1, SIZE)])).proto, taps=made, optimise=False)
    feed = np.ones((1, SIZE), np.float32)
    assert list(session.run({"x": feed})) == made[:1]
    assert list(session.run({"x": -feed})) == made[1:]


def test_iterations_that_agree() -> None:
    assert Seen(np.array([[1, 2], [1, 2]]), 1).in_all_iterations is not None
    assert Seen(np.array([[1, 2], [1, 3]]), 1).in_all_iterations is None
    assert not Seen(np.zeros((0, 2)), 1).is_array


def test_a_tap_in_a_branch_inside_a_loop_shows_the_iterations_that_take_it() -> None:
    b = Build()
    x = b.input(BATCH, SIZE)
    inner: list[str] = []

    def step(iteration: str, state: str) -> str:
        even = b.op("Equal", b.op("Mod", iteration, b.const(np.array(2))), b.const(np.array(0)))

        def one(op: str) -> str:
            inner.append(b.op(op, state))
            return inner[-1]

        return b.op("Tanh", branch(b, even, lambda: one("Neg"), lambda: one("Sin")))

    proto = Model.of(b.proto(loop(b, STEPS, step, x), dims=[(BATCH, SIZE)])).proto
    given = np.random.default_rng(2).normal(size=(BATCH, SIZE)).astype(np.float32)
    session = open_session(proto, taps=inner, optimise=False)
    expected: dict[str, list[np.ndarray]] = {name: [] for name in inner}
    state = given
    for number in range(STEPS):
        taken = -state if number % 2 == 0 else np.sin(state)
        expected[inner[number % 2]].append(taken)
        state = np.tanh(taken)
    for name, shown in session.run({"x": given}).items():
        by_sample = np.stack(expected[name], axis=1).reshape(-1, SIZE)
        assert np.allclose(shown, by_sample, atol=1e-6)
    last = open_session(proto, optimise=False).run({"x": given})
    assert np.allclose(next(iter(last.values())), state, atol=1e-6)


def test_nothing_is_run_where_nothing_is_asked_for() -> None:
    b = Build()
    proto = Model.of(b.proto(b.op("Relu", b.input(BATCH, SIZE)))).proto
    assert open_session(proto, taps=[], optimise=False).run({}) == {}
