"""Weights that a loop hands through as states are read from outside, so that they are weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.model import Model
from onnxmi.runtime.session import open_session
from tests.support.bodies import loop, scan
from tests.support.build import Build

STEPS, SIZE, WIDTH, HIDDEN = 5, 3, 13, 11


def recurrent(kind: str, *, copied: bool, also_given: bool = False) -> onnx.ModelProto:
    """A dense layer and a recurrence along the first axis, whose weights are states of the loop."""
    b = Build(seed=2)
    read = b.op("Transpose", b.dense(b.input("N", STEPS, SIZE), SIZE, WIDTH), perm=[1, 0, 2])
    weights = [b.weight(WIDTH, HIDDEN), b.weight(HIDDEN, HIDDEN)]
    batch = b.op("Gather", b.op("Shape", read), b.ints(1), axis=0)
    start = b.op("ConstantOfShape", b.op("Concat", batch, b.ints(HIDDEN), axis=0))

    def cell(state: str, one: str, *handed: str) -> list[str]:
        total = b.op("Add", b.op("MatMul", one, handed[0]), b.op("MatMul", state, handed[1]))
        made = b.op("Tanh", total)
        same = [b.op("Identity", name) for name in handed] if copied else list(handed)
        return [made, *same, b.op("Identity", made)]

    if kind == "Loop":

        def step(iteration: str, state: str, *handed: str) -> list[str]:
            return cell(state, b.op("Gather", read, iteration, axis=0), *handed)

        results = loop(b, STEPS, step, start, *weights)
    else:
        results = scan(b, lambda s, u, v, one: cell(s, one, u, v), [start, *weights], [read])
    y = b.op("Transpose", b.dense(results[3], HIDDEN, 2), perm=[1, 0, 2])
    outputs = [y, b.op("Identity", results[1])] if also_given else [y]
    return onnx.shape_inference.infer_shapes(b.proto(*outputs))


@pytest.mark.parametrize("also_given", [False, True])
@pytest.mark.parametrize(("kind", "copied"), [("Loop", False), ("Loop", True), ("Scan", True)])
def test_weights_are_read_from_outside(kind: str, copied: bool, also_given: bool) -> None:
    proto = recurrent(kind, copied=copied, also_given=also_given)
    before = proto.SerializeToString()
    made = Model.of(proto).proto
    (node,) = (node for node in made.graph.node if node.op_type == kind)
    assert len(node.output) == 2
    x = np.random.default_rng(0).normal(size=(7, STEPS, SIZE)).astype(np.float32)
    pairs = zip(*(open_session(one).run({"x": x}).values() for one in (proto, made)), strict=True)
    for expected, found in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert proto.SerializeToString() == before


def test_a_state_that_changes_stays() -> None:
    b = Build(seed=0)
    state = loop(b, 3, lambda _, one, other: [other, one], b.input("N", SIZE), b.op("Relu", "x"))
    made = Model.of(b.proto(state[0])).proto
    assert len(next(node for node in made.graph.node if node.op_type == "Loop").output) == 2


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_a_recurrence_with_such_weights_is_cut_by_default(kind: str) -> None:
    x = np.random.default_rng(1).normal(size=(101, STEPS, SIZE)).astype(np.float32)
    result = onnxmi.prune(
        recurrent(kind, copied=kind == "Scan"), {"x": x}, keep=0.5, threads=1, latency=False, force=True
    )
    assert sorted(choice.size for choice in result.plan.choices) == [HIDDEN, WIDTH]
    assert all(note["used"] or "without it" in note["reason"] for note in result.to_dict()["repair"])
