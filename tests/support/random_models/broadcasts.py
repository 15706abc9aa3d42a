"""Steps whose operands broadcast: gates and residuals of one unit, of one position, or the same for every sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.support.random_models.maker import Flow, Maker, channel_axis


def one_unit(m: Maker, x: Flow) -> str:
    """A linear map of the channels to one unit: (n, 1), (n, t, 1) or (n, 1, *space)."""
    if x.kind == "image":
        return str(m.op("Conv", x.name, m.b.weight(1, x.channels, *(1 for _ in x.space)), m.b.vector(1)))
    return str(m.op("MatMul", x.name, m.matrix(x.channels, 1)))


def mean_unit(m: Maker, x: Flow) -> str:
    """The mean over the channels, which stay as an axis of one."""
    return str(m.op("ReduceMean", x.name, axes=[channel_axis(x)], keepdims=1))


def unit_gate(m: Maker, x: Flow) -> Flow:
    return replace(x, name=m.op("Mul", x.name, m.op("Sigmoid", one_unit(m, x))))


def unit_residual(m: Maker, x: Flow) -> Flow:
    """One number added to every channel of a linear layer's result."""
    inner = m.widen(x)
    added = m.pick([one_unit, mean_unit])(m, x)
    return replace(inner, name=m.op("Add", *m.shuffled([inner.name, added])))


def dueling(m: Maker, x: Flow) -> Flow:
    """A value of one unit, plus the advantages less their mean."""
    advantages = m.widen(x)
    centered = m.op("Sub", advantages.name, mean_unit(m, advantages))
    return replace(advantages, name=m.op("Add", one_unit(m, x), centered))


def position_gate(m: Maker, x: Flow) -> Flow:
    """A weight for each position, stored: the same for all channels and samples."""
    if not x.space:
        return unit_gate(m, x)
    shape = (1, *x.space) if x.kind == "image" else (*x.space, 1)
    gate = m.b.const(m.b.rng.uniform(0.5, 1.5, size=shape))
    return replace(x, name=m.op("Mul", x.name, gate))


def table_of_positions(m: Maker, x: Flow) -> Flow:
    """A stored table, as long as the longest input, added as far as the tensor reaches."""
    if x.kind != "tokens":
        return position_gate(m, x)
    table = m.b.const(m.b.rng.normal(size=(1, x.space[0] + 6, x.channels)) / 2)
    length = m.op("Slice", m.op("Shape", x.name), m.literal([1]), m.literal([2]))
    rows = m.op("Slice", table, m.literal([0]), length, m.literal([1]))
    return replace(x, name=m.op("Add", *m.shuffled([x.name, rows])))


def gate_of_means(m: Maker, x: Flow) -> Flow:
    """A gate made of the mean over the positions: one row for all positions of a sample."""
    if not x.space:
        return unit_gate(m, x)
    if x.kind == "tokens":
        mean = m.op("ReduceMean", x.name, axes=[1], keepdims=1)
        made = m.op("Add", m.op("MatMul", mean, m.matrix(x.channels, x.channels)), m.vector(x.channels))
    else:
        mean = m.op("GlobalAveragePool", x.name)
        made = m.op("Conv", mean, m.b.weight(x.channels, x.channels, *(1 for _ in x.space)), m.vector(x.channels))
    return replace(x, name=m.op(m.pick(["Mul", "Add"]), x.name, m.op("Sigmoid", made)))


def norm_of_positions(m: Maker, x: Flow) -> Flow:
    """A BatchNormalization of a tensor whose channels are on another axis than it takes them for."""
    if x.kind != "tokens":
        return position_gate(m, x)
    size = x.space[0]
    stored = [m.b.const(m.b.rng.uniform(0.5, 1.5, size=size)) for _ in range(2)]
    return replace(x, name=m.op("BatchNormalization", x.name, stored[0], m.b.vector(size), m.b.vector(size), stored[1]))


def own_channels(m: Maker, x: Flow) -> Flow:
    """A linear layer added to its own first channel: the operands have the same maker."""
    inner = m.widen(x)
    bounds = (m.literal([0]), m.literal([1]), m.literal([channel_axis(x)]))
    return replace(inner, name=m.op("Add", inner.name, m.op("Slice", inner.name, *bounds)))


def tied(m: Maker, x: Flow) -> Flow:
    """One stored weight read as W and as its transpose, as of a tied autoencoder."""
    if x.kind == "image":
        return position_gate(m, x)
    inner = m.pick([7, 11, 15])
    weight = m.b.weight(x.channels, inner, fan_in=x.channels)
    if x.kind == "flat":
        hidden = m.op("Tanh", m.op("Gemm", x.name, weight, m.vector(inner)))
        return replace(x, name=m.op("Gemm", hidden, weight, *([m.vector(x.channels)] * m.flag()), transB=1))
    hidden = m.op("Tanh", m.op("Add", m.op("MatMul", x.name, weight), m.vector(inner)))
    return replace(x, name=m.op("MatMul", hidden, m.op("Transpose", weight, perm=[1, 0])))


def spread_by_length(m: Maker, x: Flow) -> Flow:
    """The mean over the positions, spread over as many as the tensor has, which is computed from its elements."""
    if x.kind != "tokens":
        return unit_gate(m, x)
    mean = m.op("ReduceMean", x.name, axes=[1], keepdims=1)
    ones = m.op("ConstantOfShape", m.op("Slice", m.op("Shape", x.name), m.literal([0]), m.literal([2])))
    count = m.op("ReduceMax", m.op("Cast", m.op("CumSum", m.op("Add", ones, m.one()), m.b.const(np.int64(1))), to=7))
    shape = m.op("Concat", m.literal([1]), m.op("Reshape", count, m.literal([1])), m.literal([1]), axis=0)
    return replace(x, name=m.op("Add", x.name, m.op("Tanh", m.op("Expand", mean, shape))))
