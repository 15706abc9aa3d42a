"""Recurrent layers are consumers, too: of what they read, and of their own state."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.graph.linear import Linear, feature_rows, find_linears, row_count, weights_of
from onnxmi.runtime.session import open_session
from onnxmi.selection.top_down import SelectOptions, select_channels, unscored
from tests.statistics.conftest import scene_of
from tests.support.build import Build
from tests.support.oracle import Case

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
LENGTH, BATCH, SIZE, HIDDEN = 5, 3, 7, 11


def recurrent(b: Build, op: str, x: str, size: int, directions: int = 1) -> list[str]:
    gates = GATES[op] * HIDDEN
    weights = [b.weight(directions, gates, k, fan_in=k) for k in (size, HIDDEN)]
    weights.append(b.weight(directions, 2 * gates, fan_in=1))
    way = "bidirectional" if directions == 2 else "forward"
    made: list[str] = b.op(op, x, *weights, hidden_size=HIDDEN, direction=way, outputs=2)
    return made


def layouts(case: Case) -> dict[str, Linear]:
    found = find_linears(case.model.graph, case.graph)
    return {linear.layout.name or "input": linear for linear in found if not linear.layout.result_is_product}


@pytest.mark.parametrize("directions", [1, 2])
def test_both_products_together_are_what_the_gates_see(directions: int) -> None:
    """Of a plain recurrent layer, whose states show what went into its tanh."""
    b = Build(seed=3)
    x = b.dense(b.input(LENGTH, BATCH, SIZE), SIZE, SIZE)
    states, _ = recurrent(b, "RNN", x, SIZE, directions)
    flat = b.reshape(b.op("Transpose", states, perm=[0, 2, 1, 3]), LENGTH, BATCH, directions * HIDDEN)
    proto = b.proto(b.dense(flat, directions * HIDDEN, 3))
    case = Case.of(proto)
    found = layouts(case)
    reads, state = found["input"], found["recurrence"]
    values = open_session(proto, taps=[x, states], optimise=False).run(case.feeds())
    places = np.arange(LENGTH * BATCH)
    assert row_count(state, values[states]) == row_count(reads, values[x]) == len(places)
    of_input = feature_rows(reads, values[x], places)[0] @ weights_of(case.model, reads)[0]
    of_input = of_input.reshape(LENGTH, BATCH, directions, HIDDEN)
    of_state = feature_rows(state, values[states], places) @ weights_of(case.model, state)
    of_state = of_state.reshape(directions, LENGTH, BATCH, HIDDEN)
    bias = b.initializers[case.model.graph.nodes[2].inputs[3]].reshape(directions, 2, HIDDEN).sum(axis=1)
    seen = np.arctanh(np.clip(values[states].astype(np.float64), -0.99999, 0.99999))
    backwards = slice(None, None, -1)
    for way in range(directions):
        order = backwards if way else slice(None)
        got, read, fed = seen[order, way], of_input[order, :, way], of_state[way][order]
        inside = np.abs(got[1:]) < 3
        wanted = read[1:] + fed[:-1] + bias[way]
        np.testing.assert_allclose(got[1:][inside], wanted[inside], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", GATES)
def test_every_layer_around_a_recurrent_one_is_scored(op: str, directions: int) -> None:
    b = Build(seed=3)
    x = b.op("Transpose", b.dense(b.input("N", LENGTH, SIZE), SIZE, 13), perm=[1, 0, 2])
    states, _ = recurrent(b, op, x, 13, directions)
    flat = b.reshape(b.op("Transpose", states, perm=[2, 0, 1, 3]), 0, 0, directions * HIDDEN)
    arrays = {"x": np.random.default_rng(1).normal(size=(31, LENGTH, SIZE)).astype(np.float32)}
    scene = scene_of(b.proto(b.dense(flat, directions * HIDDEN, 3)), arrays)
    found = scene.analysis
    (measured,) = scene.measure(range(31))
    assert [layer.size for layer in found.graph.layers] == [13, HIDDEN]
    assert not unscored(found, measured, found.graph.layers)
    counts = {layer.id: 5 for layer in found.graph.layers}
    choices = select_channels(found, measured, counts, SelectOptions())
    assert [choice.kept.shape[-1] for choice in choices] == [5, 5]


def test_inputs_that_no_gate_reads_are_cut_first() -> None:
    b = Build(seed=3)
    independent = b.op("MatMul", b.input("N", LENGTH, 13), b.const(np.eye(13)))
    x = b.op("Transpose", independent, perm=[1, 0, 2])
    _, last = recurrent(b, "LSTM", x, 13)
    unread = [2, 3, 5, 7, 11]
    weight = next(name for name, value in b.initializers.items() if value.shape == (1, 4 * HIDDEN, 13))
    b.initializers[weight][..., unread] = 1e-6
    arrays = {"x": np.random.default_rng(1).normal(size=(131, LENGTH, 13)).astype(np.float32)}
    scene = scene_of(b.proto(b.gemm(b.op("Squeeze", last, b.ints(0)), HIDDEN, 3)), arrays)
    found = scene.analysis
    (measured,) = scene.measure(range(131))
    layer = found.graph.layers[0]
    counts = {layer.id: 8}
    (choice,) = select_channels(found, measured, counts, SelectOptions())
    assert sorted({*unread, *choice.kept.tolist()}) == list(range(13))


def test_a_state_that_is_scaled_before_the_product_is_not_refitted() -> None:
    b = Build(seed=3)
    _, last = recurrent(b, "GRU", b.dense(b.input(LENGTH, "N", SIZE), SIZE, 13), 13)
    case = Case.of(b.proto(b.gemm(b.op("Squeeze", last, b.ints(0)), HIDDEN, 3)))
    obstacles = {name: linear.obstacle for name, linear in layouts(case).items()}
    assert obstacles == {"input": None, "recurrence": "its reset gate scales the state before the product"}
    assert len({linear.key for linear in layouts(case).values()}) == 2
