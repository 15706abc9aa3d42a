"""Recurrent layers are refitted: what their gates read, of the input and of the state, and the bias of each."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxmi.axes.keeping import Keeping
from onnxmi.repair import repair_one_pass, repair_stepwise
from onnxmi.transforms.prune_channels import Replacement, prune_channels
from tests.repair.conftest import Bench
from tests.support.build import Build
from tests.support.oracle import run

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
LENGTH, SIZE, READ, HIDDEN = 5, 7, 13, 11


def recognizer(op: str, directions: int = 2, *, bias: bool = True, computed: bool = False) -> onnx.ModelProto:
    """A dense layer, two recurrent ones with the steps first, and an output for each step.

    Biases may be computed: exporters put gates into another order where the model runs.
    """
    b, width = Build(seed=3), READ
    h = b.op("Transpose", b.dense(b.input("N", LENGTH, SIZE), SIZE, READ), perm=[1, 0, 2])
    way = "bidirectional" if directions == 2 else "forward"
    extra = {"linear_before_reset": 1} if op == "GRU" else {}
    for _ in range(2):
        gates = GATES[op] * HIDDEN
        weights = [b.weight(directions, gates, k, fan_in=k) for k in (width, HIDDEN)]
        weights += [b.weight(directions, 2 * gates, fan_in=9)] if bias else []
        if computed:
            parts = [b.op("Slice", weights[2], *map(b.ints, (start, start + gates, 1))) for start in (0, gates)]
            weights[2] = b.op("Concat", *parts, axis=1)
        states = b.op(op, h, *weights, hidden_size=HIDDEN, direction=way, outputs=2, **extra)[0]
        width = directions * HIDDEN
        h = b.reshape(b.op("Transpose", states, perm=[0, 2, 1, 3]), 0, 0, width)
    return b.proto(b.op("Transpose", b.dense(h, width, 3), perm=[1, 0, 2]))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", GATES)
def test_refitted_gates_bring_the_outputs_closer(op: str, directions: int) -> None:
    bench = Bench(recognizer(op, directions))
    keeping = bench.keep(0.5)
    one_pass = repair_one_pass(bench.cut(keeping), bench.statistics())
    stepwise = repair_stepwise(bench.cut(keeping), bench.repair_samples(), shared=one_pass)
    for repaired in (one_pass, stepwise):
        others = [made for made in repaired.replacements if not made.linear.layout.shares_bias]
        assert len(others) < len(repaired.replacements)
        assert bench.error(keeping, repaired.replacements) < 0.9 * bench.error(keeping, others)
    assert all(note.used for note in (*one_pass.notes, *stepwise.notes))


@pytest.mark.parametrize("op", GATES)
def test_a_bias_that_is_computed_is_not_lost(op: str) -> None:
    answers = []
    for computed in (False, True):
        bench = Bench(recognizer(op, computed=computed))
        keeping = bench.keep(0.5)
        repaired = repair_one_pass(bench.cut(keeping), bench.statistics()).replacements
        assert any(made.linear.layout.shares_bias for made in repaired)
        answers += run(prune_channels(bench.cut(keeping), repaired), bench.case.feeds())
    np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_each_product_has_its_half_of_the_bias(bias: bool) -> None:
    bench = Bench(recognizer("LSTM", bias=bias))
    layer = bench.graph.layers[1]
    keeping = Keeping({layer.id: layer.keep(np.array([[0, 2, 5], [1, 2, 9]]))})
    outputs = 2 * 4 * 3
    own = [linear for linear in bench.linears if linear.layout.shares_bias and linear.nodes[0].index == layer.makers[0]]
    rng = np.random.default_rng(1)
    shifts = [rng.normal(size=outputs) for _ in own]
    replacements = [Replacement(linear, None, shift) for linear, shift in zip(own, shifts, strict=True)]
    halves = []
    for proto in (bench.case.cut(keeping), prune_channels(bench.case.cut_of(keeping), replacements)):
        node = next(node for node in proto.graph.node if node.op_type == "LSTM")
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
        found = stored[node.input[3]] if len(node.input) > 3 else np.zeros((2, 8 * 3), np.float32)
        halves.append(found.reshape(2, 2, -1))
    expected = np.stack([shift.reshape(2, -1) for shift in shifts], axis=1)
    np.testing.assert_allclose(halves[1] - halves[0], expected, rtol=1e-5, atol=1e-6)
