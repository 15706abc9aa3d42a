"""Networks with states: outputs that are fed back as inputs, of cells, of recurrent layers and of windows of sound."""

from __future__ import annotations

import numpy as np
import onnx

from tests.support.random_models.bodies import with_body
from tests.support.random_models.dense import gemm, matmul
from tests.support.random_models.maker import Flow, Maker

_HIDDEN = (5, 7, 9, 15)


def between(m: Maker, x: Flow) -> Flow:
    """Steps that keep the shape, some of them with bodies."""
    return m.same_shape(x) if m.flag(0.7) else with_body(m, x)


def cell(m: Maker, x: Flow, name: str) -> tuple[Flow, str]:
    """A cell of its own making, whose state may go through other steps before it is fed back."""
    hidden = m.pick(_HIDDEN)
    state = m.feed(name, (hidden,))
    total = m.op("Add", m.op("MatMul", x.name, m.matrix(x.channels, hidden)), m.vector(hidden))
    made = Flow(m.op("Tanh", m.op("Add", total, m.op("MatMul", state, m.matrix(hidden, hidden)))), "flat", hidden)
    if m.flag():
        made = between(m, made)
    return made, m.op("Identity", made.name)


def slow_cell(m: Maker, x: Flow, name: str) -> tuple[Flow, str]:
    """A fast and a slow memory side by side in one state (batch, 2, hidden), or one after the other."""
    hidden = m.pick(_HIDDEN)
    stacked = m.flag()
    state = m.feed(name, (2, hidden) if stacked else (2 * hidden,))
    if stacked:
        fast, slow = (m.op("Gather", state, m.b.const(np.int64(place)), axis=1) for place in (0, 1))
    else:
        fast, slow = (
            m.op("Slice", state, m.literal([begin]), m.literal([begin + hidden]), m.literal([1]))
            for begin in (0, hidden)
        )
    total = m.op("Add", m.op("MatMul", x.name, m.matrix(x.channels, hidden)), m.vector(hidden))
    fresh = m.op("Tanh", m.op("Add", total, m.op("MatMul", fast, m.matrix(hidden, hidden))))
    mixed = m.op("Add", fresh, m.op("Mul", slow, m.b.const(np.float32(0.5))))
    parts = [m.op("Unsqueeze", one, m.literal([1])) for one in (fresh, mixed)] if stacked else [fresh, mixed]
    return Flow(mixed, "flat", hidden), m.op("Concat", *parts, axis=1)


def window(m: Maker, x: Flow, name: str) -> tuple[Flow, str]:
    """The last inputs of a convolution along time, kept for the next step."""
    length = m.pick([2, 3])
    cache = m.feed(name, (x.channels, length))
    joined = m.op("Concat", cache, m.op("Unsqueeze", x.name, m.literal([2])), axis=2)
    out = m.pick(_HIDDEN)
    made = m.op("Conv", joined, m.b.weight(out, x.channels, length + 1), m.vector(out))
    kept = m.op("Slice", joined, m.literal([1]), m.literal([length + 1]), m.literal([2]))
    return Flow(m.op("Squeeze", made, m.literal([2])), "flat", out), kept


def recurrent_layer(m: Maker, x: Flow, name: str) -> tuple[Flow, str]:
    """One step of a GRU or an LSTM; the cell starts at zero where it is no state."""
    op, gates = m.pick([("GRU", 3), ("LSTM", 4), ("RNN", 1)])
    hidden = m.pick([5, 7])
    state = m.op("Unsqueeze", m.feed(name, (hidden,)), m.literal([0]))
    weights = m.b.weight(1, gates * hidden, x.channels), m.b.weight(1, gates * hidden, hidden)
    bias = m.b.weight(1, 2 * gates * hidden, fan_in=4)
    settings = {"linear_before_reset": int(m.flag())} if op == "GRU" else {}
    first = m.op("Unsqueeze", x.name, m.literal([0]))
    made = m.b.op(op, first, *weights, bias, "", state, hidden_size=hidden, outputs=2, **settings)
    flat = m.op("Squeeze", made[1], m.literal([0]))
    return Flow(flat, "flat", hidden), m.op("Identity", flat)


_CELLS = (cell, slow_cell, window, recurrent_layer)


def stateful_model(m: Maker, longest: int = 3) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Make a model with one or two states; also return inputs -> the outputs that are fed back as them."""
    flow, states, given = gemm(m, Flow(m.feed("x", (13,)), "flat", 13)), dict[str, str](), []
    for number in range(m.rng.randint(1, 2)):
        for _ in range(m.rng.randint(0, longest // 2)):
            flow = between(m, flow)
        flow, output = m.pick(_CELLS)(m, flow, f"state{number}")
        states[f"state{number}"] = output
        given.append(output)
    proto = m.b.proto(matmul(m, between(m, flow), 7).name, *given)
    return proto, states
