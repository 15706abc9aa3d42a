"""Steps with bodies: If with layers of its own or shared ones in each branch, Loop and Scan with states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from tests.support.bodies import branch, loop, scan
from tests.support.random_models.anywhere import activation, add_constant, gelu
from tests.support.random_models.dense import batch_norm, layer_norm, same_gemm, same_matmul
from tests.support.random_models.images import depthwise, norm, same_conv
from tests.support.random_models.maker import Flow, Maker, Step

_INSIDE: dict[str, list[Step]] = {
    "image": [activation, add_constant, same_conv, same_conv, depthwise, norm],
    "flat": [activation, add_constant, gelu, same_gemm, same_matmul, same_matmul, batch_norm, layer_norm],
    "tokens": [activation, add_constant, gelu, same_matmul, same_matmul, layer_norm],
}
_HIDDEN = (5, 7, 9)


def conditional(m: Maker, x: Flow) -> Flow:
    """An If; one branch is taken by all samples, so that a batch gives what its samples give."""
    total = m.op("ReduceSum", m.op("Abs", x.name), keepdims=0)
    condition = m.op(m.pick(["Greater", "Less"]), total, m.b.const(np.float32(-1.0)))
    inside = m.flag()

    def one() -> str:
        flow = x
        for _ in range(m.rng.randint(1, 3)):
            flow = m.pick(_INSIDE[x.kind])(m, flow)
        if m.flag(0.2):
            flow = conditional(m, flow)
        return m.op("Identity", flow.name) if flow is x else flow.name

    return replace(x, name=branch(m.b, condition, one, one, inside=inside))


def in_odd_iterations(m: Maker, x: Flow, iteration: str) -> Flow:
    """An If inside a Loop: the iterations take one branch and the other in turn."""
    odd = m.op("Cast", m.op("Mod", iteration, m.b.const(np.int64(2))), to=onnx.TensorProto.BOOL)

    def one() -> str:
        flow = m.pick(_INSIDE[x.kind])(m, x)
        return m.op("Identity", flow.name) if flow is x else flow.name

    return replace(x, name=branch(m.b, odd, one, one, inside=m.flag()))


def looped(m: Maker, x: Flow) -> Flow:
    """A Loop whose state keeps its shape: a block that is run several times."""

    def step(iteration: str, state: str) -> str:
        flow = replace(x, name=state)
        for _ in range(m.rng.randint(1, 3)):
            flow = m.pick(_INSIDE[x.kind])(m, flow)
        if m.flag(0.25):
            flow = in_odd_iterations(m, flow, iteration)
        return m.op("Tanh", m.op("Add", state, flow.name))

    return replace(x, name=loop(m.b, m.pick([1, 2, 3]), step, x.name, inside=m.flag()))


def with_body(m: Maker, x: Flow) -> Flow:
    return m.pick([conditional, looped])(m, x)


def scanned(m: Maker, x: Flow) -> Flow:
    """A recurrence along the tokens, as a Scan or as a Loop that gathers them."""
    hidden = m.pick(_HIDDEN)
    batch = m.op("Gather", m.op("Shape", x.name), m.b.const(np.int64(0)), axis=0)
    shape = m.op("Concat", m.op("Unsqueeze", batch, m.literal([0])), m.literal([hidden]), axis=0)
    start = m.op("ConstantOfShape", shape)

    def cell(state: str, read: str) -> list[str]:
        total = m.op("Add", m.op("MatMul", read, m.matrix(x.channels, hidden)), m.vector(hidden))
        made = m.op("Tanh", m.op("Add", total, m.op("MatMul", state, m.matrix(hidden, hidden))))
        return [made, m.op("Identity", made)]

    if m.flag():
        axes = {"scan_input_axes": [1], "scan_output_axes": [1]}
        states = scan(m.b, cell, [start], [x.name], inside=m.flag(), **axes)[1]
    else:
        first = m.op("Transpose", x.name, perm=[1, 0, 2])

        def step(iteration: str, state: str) -> list[str]:
            return cell(state, m.op("Gather", first, iteration, axis=0))

        made = loop(m.b, x.space[0] if x.space else 3, step, start, inside=m.flag())[1]
        states = m.op("Transpose", made, perm=[1, 0, 2])
    return Flow(states, "tokens", hidden, x.space)
