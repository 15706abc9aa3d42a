"""Steps for tensors of any kind: elementwise operators, residuals, concatenations, splits, picking channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tests.support.random_models.maker import Flow, Maker, channel_axis, per_channel


def activation(m: Maker, x: Flow) -> Flow:
    hard = [] if m.smooth else ["Relu", "Clip", "HardSwish", "Max"]
    op = m.pick(["Sigmoid", "LeakyRelu", "PRelu", "Tanh", "Mul", *hard])
    if op == "Clip":
        return replace(x, name=m.op(op, x.name, m.b.const(np.float32(-0.5)), m.b.const(np.float32(1.5))))
    if op == "PRelu":
        return replace(x, name=m.op(op, x.name, per_channel(m, x)))
    if op in ("Mul", "Max"):
        operand = m.pick([per_channel(m, x), m.b.const(np.float32(0.7))])
        return replace(x, name=m.op(op, x.name, operand))
    return replace(x, name=m.op(op, x.name))


def add_constant(m: Maker, x: Flow) -> Flow:
    return replace(x, name=m.op("Add", x.name, per_channel(m, x)))


def residual(m: Maker, x: Flow) -> Flow:
    inner = m.same_shape(x)
    operands = [x.name, inner.name]
    m.rng.shuffle(operands)
    return replace(x, name=m.op(m.pick(["Add", "Add", "Mul", "Sub"]), *operands))


def concat(m: Maker, x: Flow) -> Flow:
    parts = [m.widen(x), x if m.flag(0.3) else m.widen(x)]
    if m.flag(0.2):
        parts.append(parts[0])
    m.rng.shuffle(parts)
    made = m.op("Concat", *(p.name for p in parts), axis=channel_axis(x))
    return replace(x, name=made, channels=sum(p.channels for p in parts))


def split(m: Maker, x: Flow) -> Flow:
    """Take the channels apart, let the parts go different ways, and join them or not."""
    if x.channels < 4:
        return activation(m, x)
    first = m.rng.randint(1, x.channels - 1)
    sizes = [first, x.channels - first]
    attrs: dict[str, Any] = {
        "axis": channel_axis(x) if m.flag() else channel_axis(x) - (3 if x.kind == "tokens" else 2 + len(x.space))
    }
    if x.channels % 3 == 0 and m.flag(0.4):
        sizes = [x.channels // 3] * 3
        operands = [x.name] if m.flag() else [x.name, m.literal(sizes)]
    else:
        operands = [x.name, m.literal(sizes)]
    names = m.op("Split", *operands, outputs=len(sizes), **attrs)
    flows = [replace(x, name=name, channels=size) for name, size in zip(names, sizes, strict=True)]
    if len(set(sizes)) == 1 and m.flag():
        name = flows[0].name
        for other in flows[1:]:
            name = m.op(m.pick(["Add", "Mul"]), name, m.op("Sigmoid", other.name))
        return replace(flows[0], name=name)
    flows = [activation(m, f) if m.flag() else f for f in flows]
    if m.flag(0.3):
        flows.reverse()
    return replace(x, name=m.op("Concat", *(f.name for f in flows), axis=channel_axis(x)))


def picked(m: Maker, x: Flow) -> Flow:
    """Channels in another order, and some of them left out or twice where nothing hides in that."""
    order = list(range(x.channels))
    m.rng.shuffle(order)
    if not m.smooth and m.flag():
        order = [m.rng.randrange(x.channels) for _ in range(m.rng.randint(2, x.channels + 2))]
    name = m.op("Gather", x.name, m.literal(order), axis=channel_axis(x))
    return replace(x, name=name, channels=len(order))


def sliced(m: Maker, x: Flow) -> Flow:
    """A stretch of the channels, forwards or backwards."""
    start, stop, step = 0, x.channels, 1
    if not m.smooth:
        start, left_out, step = m.rng.randint(0, 1), m.rng.randint(0, 1), m.pick([1, 1, 2])
        start = min(start, x.channels - 1)  # something is left
        stop = max(x.channels - left_out, start + 1)
    size = len(range(start, stop, step))
    bounds = [[start], [stop], [channel_axis(x)], [step]]
    if m.flag(0.3):  # backwards: from the last one down to the first
        bounds = [[x.channels - 1], [-x.channels - 1], [channel_axis(x)], [-1]]
        size = x.channels
    name = m.op("Slice", x.name, *(m.literal(bound) for bound in bounds))
    return replace(x, name=name, channels=size)


def chosen(m: Maker, x: Flow) -> Flow:
    """One of two values for each channel."""
    shape = (x.channels, *(1 for _ in x.space)) if x.kind == "image" else (x.channels,)
    condition = m.b.const(m.b.rng.integers(0, 2, size=shape).astype(bool))
    return replace(x, name=m.op("Where", condition, x.name, m.op("Tanh", x.name)))


def gelu(m: Maker, x: Flow) -> Flow:
    """As exporters write it."""
    inner = m.op("Erf", m.op("Div", x.name, m.b.const(np.float32(1.4142135))))
    halved = m.op("Mul", m.op("Add", inner, m.b.const(np.float32(1))), m.b.const(np.float32(0.5)))
    return replace(x, name=m.op("Mul", x.name, halved))


def expanded(m: Maker, x: Flow) -> Flow:
    """A stored row, spread over everything by the shape that the tensor has."""
    return replace(x, name=m.op("Add", x.name, m.op("Expand", per_channel(m, x), m.op("Shape", x.name))))


def squeezed(m: Maker, x: Flow) -> Flow:
    """An axis of one, put in and taken out again."""
    axis = m.literal([m.pick([1, 2])])
    return replace(x, name=m.op("Squeeze", m.op("Sigmoid", m.op("Unsqueeze", x.name, axis)), axis))
