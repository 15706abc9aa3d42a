"""The gradients of the products inside a recurrent operator, against differences of what its weights give."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.model import Graph
from onnxmi.operators.recurrent_gradient import recurrent_gradients
from onnxmi.operators.vjp import VjpContext
from onnxmi.runtime.session import open_session
from tests.support.build import Build

STEPS, SAMPLES, SIZE, HIDDEN, EPSILON = 5, 3, 2, 7, 3e-3
CASES = {
    "RNN": {},
    "GRU": {},
    "GRU, product reset": {"linear_before_reset": 1},
    "LSTM": {},
}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("weight", ["input", "recurrence"])
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_a_product_is_that_of_its_weights(case: str, weight: str) -> None:
    """What a product's rows hand to its weights, summed, is the gradient of the weights."""
    b, op = Build(seed=3), case.split(",")[0]
    x, gates = b.input(STEPS, SAMPLES, SIZE), GATES[op] * HIDDEN
    stored = {
        "w": 0.7 * np.random.default_rng(1).normal(size=(2, gates, SIZE)),
        "r": 0.4 * np.random.default_rng(2).normal(size=(2, gates, HIDDEN)),
    }
    fed = [b.input(*stored[name].shape, name=name) for name in "wr"]
    bias, lengths = b.weight(2, 2 * gates), b.const(np.array([5, 2, 4], np.int32))
    settings = {"hidden_size": HIDDEN, "direction": "bidirectional", **CASES[case]}
    y, last = b.op(op, x, *fed, bias, lengths, outputs=2, **settings)
    proto = b.proto(y, last)
    feeds = {"x": np.random.default_rng(0).normal(size=(STEPS, SAMPLES, SIZE)), **stored}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    session = open_session(proto, optimise=False)
    values = {**feeds, **session.run(feeds), **{bias: b.initializers[bias], lengths: b.initializers[lengths]}}
    rng = np.random.default_rng(5)
    upper = {name: rng.normal(size=values[name].shape).astype(np.float32) for name in (y, last)}
    node = Graph(proto).nodes[-1]
    ctx = VjpContext(node, values.__getitem__, tuple(upper[name] for name in node.outputs), frozenset({0}), 17)
    found = recurrent_gradients(ctx)
    if weight == "input":
        name, gradient = "w", np.einsum("dsng,sni->dgi", found.gates, feeds["x"])
    else:
        name, gradient = "r", np.einsum("dsng,sdnh->dgh", found.recurrent, values[y])
    if case == "GRU" and weight == "recurrence":  # its last third multiplies another thing than the state
        gradient[:, 2 * HIDDEN :] = 0
    for _ in range(3):
        way = rng.normal(size=gradient.shape)
        if case == "GRU" and weight == "recurrence":
            way[:, 2 * HIDDEN :] = 0
        sides = [feeds | {name: (feeds[name] + sign * EPSILON * way).astype(np.float32)} for sign in (1, -1)]
        ahead, behind = (
            sum((upper[n] * made).astype(np.float64).sum() for n, made in session.run(side).items()) for side in sides
        )
        assert float((gradient * way).sum()) == pytest.approx((ahead - behind) / (2 * EPSILON), rel=2e-3, abs=5e-3)
