"""Recurrent layers: a hidden unit goes with all its gates."""

import numpy as np
import onnx
import pytest

from tests.support.build import Build
from tests.support.oracle import Case, assert_exact, assert_frozen, assert_prunes, cut_all

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
HIDDEN, SIZE, LENGTH = 11, 7, 5


def recurrent(b: Build, op: str, x: str, directions: int = 1, hidden: int = HIDDEN, size: int = SIZE, **attrs) -> str:
    gates = GATES[op]
    weights = [b.weight(directions, gates * hidden, size), b.weight(directions, gates * hidden, hidden)]
    weights.append(b.weight(directions, 2 * gates * hidden))
    way = "bidirectional" if directions == 2 else "forward"
    return b.op(op, x, *weights, hidden_size=hidden, direction=way, outputs=2, **attrs)


@pytest.mark.parametrize("op", list(GATES))
def test_the_last_state_of_a_recurrent_layer(op: str) -> None:
    b = Build()
    _, last = recurrent(b, op, b.input(LENGTH, "N", SIZE))
    assert_prunes(b.proto(b.gemm(b.op("Squeeze", last, b.ints(0)), HIDDEN, 3)), HIDDEN)


@pytest.mark.parametrize("op", list(GATES))
def test_two_directions_keep_their_own_units(op: str) -> None:
    b = Build()
    states, _ = recurrent(b, op, b.input(LENGTH, 3, SIZE), directions=2)
    flat = b.reshape(b.op("Transpose", states, perm=[0, 2, 1, 3]), 0, 0, -1)
    case = Case.of(b.proto(b.dense(flat, 2 * HIDDEN, 3)))
    assert [(layer.size, layer.parts) for layer in case.graph.layers] == [(HIDDEN, 2)]
    assert_exact(case, cut_all(case))


def test_a_gru_that_resets_before_the_product() -> None:
    b = Build()
    states, _ = recurrent(b, "GRU", b.input(LENGTH, 3, SIZE), linear_before_reset=1)
    assert_prunes(b.proto(b.dense(b.op("Squeeze", states, b.ints(1)), HIDDEN, 3)), HIDDEN)


def test_stacked_layers() -> None:
    b = Build()
    states, _ = recurrent(b, "LSTM", b.input(LENGTH, 3, SIZE))
    states = b.op("Squeeze", states, b.ints(1))
    _, last = recurrent(b, "GRU", states, size=HIDDEN, hidden=13)
    assert_prunes(b.proto(b.gemm(b.op("Squeeze", last, b.ints(0)), 13, 3)), HIDDEN, 13)


def test_peepholes_go_with_their_units() -> None:
    b = Build()
    x = b.input(LENGTH, 3, SIZE)
    weights = [b.weight(1, 4 * HIDDEN, SIZE), b.weight(1, 4 * HIDDEN, HIDDEN), b.weight(1, 8 * HIDDEN)]
    _, last = b.op("LSTM", x, *weights, "", "", "", b.weight(1, 3 * HIDDEN), hidden_size=HIDDEN, outputs=2)
    assert_prunes(b.proto(b.gemm(b.op("Squeeze", last, b.ints(0)), HIDDEN, 3)), HIDDEN)


def test_a_fed_initial_state_freezes() -> None:
    b = Build()
    x, state = b.input(LENGTH, 3, SIZE), b.input(1, 3, HIDDEN, name="state")
    weights = [b.weight(1, HIDDEN, SIZE), b.weight(1, HIDDEN, HIDDEN), b.weight(1, 2 * HIDDEN)]
    _, last = b.op("RNN", x, *weights, "", state, hidden_size=HIDDEN, outputs=2)
    case = Case.of(b.proto(b.gemm(b.op("Squeeze", last, b.ints(0)), HIDDEN, 3)))
    assert case.sizes == []
    assert "graph input state" in case.reasons
    assert np.isfinite(case.graph.frozen[0].size)


def test_states_that_are_computed_from_shapes_follow_their_layer() -> None:
    b = Build()
    x = b.input(LENGTH, "N", SIZE)
    batch = b.op("Slice", b.op("Shape", x), b.ints(1), b.ints(2), b.ints(0))
    state = b.op("ConstantOfShape", b.op("Concat", b.ints(1), batch, b.ints(HIDDEN), axis=0))
    weights = [b.weight(1, 4 * HIDDEN, SIZE), b.weight(1, 4 * HIDDEN, HIDDEN)]
    _, last, cell = b.op("LSTM", x, *weights, "", "", state, state, hidden_size=HIDDEN, outputs=3)
    _, last = b.op("LSTM", x, *weights, "", "", last, cell, hidden_size=HIDDEN, outputs=2)
    assert_prunes(b.proto(b.gemm(b.op("Squeeze", last, b.ints(0)), HIDDEN, 3)), HIDDEN)


@pytest.mark.parametrize("op", list(GATES))
def test_two_operators_that_leave_their_first_output_out(op: str) -> None:
    b = Build()
    x, read = b.input(LENGTH, "N", SIZE), []
    for _ in range(2):
        weights = [b.weight(1, GATES[op] * HIDDEN, k) for k in (SIZE, HIDDEN)]
        read.append(b.name("last"))
        b.nodes.append(onnx.helper.make_node(op, [x, *weights], ["", read[-1]], hidden_size=HIDDEN))
    assert_prunes(b.proto(b.gemm(b.op("Squeeze", b.op("Mul", *read), b.ints(0)), HIDDEN, 3)), HIDDEN)


def integers(b: Build, x: str, hidden: int, zero: int, directions: int = 1) -> str:
    """A layer as onnxruntime quantizes it: weights of 8 bits, (directions, inputs, gates * hidden)."""
    rng = np.random.default_rng(3)
    weights = [b.const(rng.integers(-100, 100, (directions, k, 4 * hidden)).astype(np.int8)) for k in (SIZE, hidden)]
    scale, point = (b.const(np.full(directions, value, kind)) for value, kind in ((0.005, np.float32), (zero, np.int8)))
    bias, way = b.weight(directions, 8 * hidden), "bidirectional" if directions == 2 else "forward"
    operands = [x, *weights, bias, "", "", "", "", scale, point, scale, point]
    settings = {"hidden_size": hidden, "direction": way, "domain": "com.microsoft"}
    return b.op("DynamicQuantizeLSTM", *operands, outputs=2, **settings)[1]


@pytest.mark.parametrize(("directions", "zero"), [(1, 0), (1, 3), (2, 0)])
def test_a_quantized_layer(directions: int, zero: int) -> None:
    """The state is rounded by the range of what there is of it, so the cut is not exact to the last bit."""
    b = Build()
    last = integers(b, b.input(LENGTH, 3, SIZE), HIDDEN, zero, directions)
    flat = b.reshape(b.op("Transpose", last, perm=[1, 0, 2]), 3, -1)
    case = Case.of(b.proto(b.gemm(flat, directions * HIDDEN, 3)))
    assert case.sizes == [HIDDEN]
    assert_exact(case, cut_all(case), tolerance=1e-2)


def test_zero_points_of_two_directions_are_left_alone() -> None:
    b = Build()
    last = integers(b, b.input(LENGTH, 3, SIZE), HIDDEN, 3, 2)
    flat = b.reshape(b.op("Transpose", last, perm=[1, 0, 2]), 3, -1)
    assert_frozen(b.proto(b.gemm(flat, 2 * HIDDEN, 3)), "zero points")
