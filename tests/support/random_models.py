"""Random models out of everything that MLPs and CNNs are made of, for the oracle to hold them against.

`random_model(rng)` takes any `random.Random`; Hypothesis hands in one whose draws it can shrink, a tool seeds its own.
Sizes are products of odd primes, so that swapped axes cannot hide behind equal sizes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx

from support.build import Build

CHANNELS = (5, 7, 9, 11, 15, 21)
GROUPED = (9, 15, 21)


@dataclass(frozen=True)
class Flow:
    """A tensor on its way: `kind` is "image" (n, c, *space), "flat" (n, c) or "tokens" (n, t, c)."""

    name: str
    kind: str
    channels: int
    space: tuple[int, ...] = ()


class Maker:
    """One model being made at random. `smooth` leaves out what can hide a change (Relu, Clip, MaxPool)."""

    def __init__(self, rng: random.Random, smooth: bool = False) -> None:
        self.rng, self.smooth = rng, smooth
        self.b = Build(seed=rng.randint(0, 2**31 - 1))
        self.depth = 0
        self.batch: int | str = rng.choice(["N", 3, 1])
        self.spare: list[str] = []  # tensors that must reach an output too

    # -- choices ----------------------------------------------------------------------------------------------------

    def flag(self, chance: float = 0.5) -> bool:
        return self.rng.random() < chance

    def pick(self, options: Any) -> Any:
        return self.rng.choice(list(options))

    def op(self, *args: Any, **attrs: Any) -> Any:
        return self.b.op(*args, **attrs)

    def step(self, flow: Flow) -> Flow:
        return self.pick(STEPS[flow.kind])(self, flow)

    def same_shape(self, flow: Flow) -> Flow:
        """A few steps that keep the shape."""
        for _ in range(self.rng.randint(1, 2)):
            flow = self.pick(SAME[flow.kind])(self, flow)
        return flow

    # -- constants, in the many ways exporters store them --------------------------------------------------------------

    def vector(self, size: int) -> str:
        """A bias; sometimes one that others of its size read too, sometimes through an Identity."""
        known = [
            n for n, a in self.b.initializers.items() if a.shape == (size,) and a.dtype == np.float32 and n[0] == "s"
        ]
        name = self.pick(known) if known and self.flag() else self.b.vector(size, name=self.b.name("s"))
        return self.op("Identity", name) if self.flag(0.2) else name

    def matrix(self, k: int, m: int) -> str:
        """A (k, m) weight: stored, as a Constant node, or the transpose of a stored one."""
        form = self.pick(["stored", "stored", "transposed", "identity", "node"])
        if form == "transposed":
            return self.op("Transpose", self.b.weight(m, k), perm=[1, 0])
        name = self.b.weight(k, m, fan_in=k)
        if form == "identity":
            return self.op("Identity", name)
        if form == "node":
            value = onnx.numpy_helper.from_array(self.b.initializers.pop(name))
            return self.op("Constant", value=value)
        return name

    def shape_of(self, x: str, entries: list[int | str]) -> str:
        """A shape operand: integers are literal, "@i" is the size of axis i of x, read at run time."""
        if not any(isinstance(entry, str) for entry in entries):
            return self.literal([int(entry) for entry in entries])
        shape = self.op("Shape", x)
        parts = []
        for entry in entries:
            if isinstance(entry, str):
                one = self.op("Gather", shape, self.b.const(np.int64(int(entry[1:]))), axis=0)
                parts.append(self.op("Unsqueeze", one, self.literal([0])))
            else:
                parts.append(self.literal([entry]))
        return self.op("Concat", *parts, axis=0)

    def literal(self, values: list[int]) -> str:
        """An integer constant, shared with other users of the same value, as exporters do."""
        wanted = np.array(values, dtype=np.int64)
        for name, array in self.b.initializers.items():
            if array.dtype == np.int64 and np.array_equal(array, wanted) and array.shape == wanted.shape:
                return name
        return self.b.const(wanted)

    def batch_entry(self) -> int | str:
        return self.pick(["@0", 0, -1])


# -- steps for any kind --


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


def per_channel(m: Maker, x: Flow) -> str:
    shape = (x.channels, *(1 for _ in x.space)) if x.kind == "image" else (x.channels,)
    return m.b.const(m.b.rng.uniform(0.3, 1.5, size=m.pick([shape, (1,) * (x.kind == "image") + shape])))


def add_constant(m: Maker, x: Flow) -> Flow:
    return replace(x, name=m.op("Add", x.name, per_channel(m, x)))


def residual(m: Maker, x: Flow) -> Flow:
    inner = m.same_shape(x)
    operands = [x.name, inner.name]
    m.rng.shuffle(operands)
    return replace(x, name=m.op(m.pick(["Add", "Add", "Mul", "Sub"]), *operands))


def channel_axis(x: Flow) -> int:
    return 2 if x.kind == "tokens" else 1


def concat(m: Maker, x: Flow) -> Flow:
    parts = [m.pick(WIDEN[x.kind])(m, x), x if m.flag(0.3) else m.pick(WIDEN[x.kind])(m, x)]
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


# -- images --


def conv(m: Maker, x: Flow, out: int | None = None, kernel: int | None = None, **fixed: Any) -> Flow:
    """A convolution with any of its attributes; with `out` given, one that keeps the shape."""
    keep = out is not None
    group = 1
    if x.channels in GROUPED and (out is None or out % 3 == 0) and m.flag(0.4):
        group = 3
        out = out or m.pick(GROUPED)
    out = out or m.pick(CHANNELS)
    sizes = [kernel or (m.pick([1, 3]) if keep else m.pick([k for k in (1, 2, 3) if k <= s])) for s in x.space]
    attrs: dict[str, Any] = {"kernel_shape": sizes} if m.flag() else {}
    dilations = [1] * len(sizes)
    if keep:
        attrs["pads"] = [k // 2 for k in sizes] * 2
    else:
        if m.flag(0.3):
            dilations = attrs["dilations"] = [
                m.pick([1, 2]) if (k - 1) * 2 < s else 1 for k, s in zip(sizes, x.space, strict=True)
            ]
        if m.flag(0.3):
            attrs["strides"] = [m.pick([1, 2]) for _ in sizes]
        if m.flag(0.2) and all(d == 1 for d in dilations):
            attrs["auto_pad"] = m.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
        else:
            attrs["pads"] = [m.rng.randint(0, k // 2) for k in sizes * 2]
    if group > 1 or m.flag(0.2):
        attrs["group"] = group
    operands = [x.name, m.b.weight(out, x.channels // group, *sizes)]
    if m.flag(0.75):
        operands.append(m.vector(out))
    space = (
        x.space
        if keep
        else tuple(
            _conv_size(s, k, d, attrs, i, len(sizes))
            for i, (s, k, d) in enumerate(zip(x.space, sizes, dilations, strict=True))
        )
    )
    if any(s < 1 for s in space):
        return pointwise(m, x)
    return Flow(m.op("Conv", *operands, **attrs), "image", out, space)


def _conv_size(size: int, kernel: int, dilation: int, attrs: dict[str, Any], axis: int, axes: int) -> int:
    stride = attrs.get("strides", [1] * axes)[axis]
    if attrs.get("auto_pad", "").startswith("SAME"):
        return -(-size // stride)
    pads = attrs.get("pads", [0] * (2 * axes))
    return (size + pads[axis] + pads[axes + axis] - (kernel - 1) * dilation - 1) // stride + 1


def pointwise(m: Maker, x: Flow, out: int | None = None) -> Flow:
    out = out or m.pick(CHANNELS)
    return conv(m, x, out=out, kernel=1)


def same_conv(m: Maker, x: Flow) -> Flow:
    return conv(m, x, out=x.channels)


def other_conv(m: Maker, x: Flow) -> Flow:
    return conv(m, x, out=m.pick(CHANNELS))


def twice_conv(m: Maker, x: Flow) -> Flow:
    """One weight, read by two convolutions."""
    weight = m.b.weight(x.channels, x.channels, *(1 for _ in x.space))
    inner = m.op("Conv", x.name, weight)
    return replace(x, name=m.op("Conv", m.op("Sigmoid", inner), weight))


def depthwise(m: Maker, x: Flow, multiplier: int = 1) -> Flow:
    operands = [x.name, m.b.weight(x.channels * multiplier, 1, *(3 for _ in x.space), fan_in=3)]
    if m.flag():
        operands.append(m.vector(x.channels * multiplier))
    pads = [1] * (2 * len(x.space))
    return replace(x, name=m.op("Conv", *operands, group=x.channels, pads=pads), channels=x.channels * multiplier)


def depthwise_multiplied(m: Maker, x: Flow) -> Flow:
    return depthwise(m, x, 3)


def transposed_conv(m: Maker, x: Flow) -> Flow:
    group = 3 if x.channels in GROUPED and m.flag(0.4) else 1
    out = m.pick(GROUPED if group == 3 else CHANNELS)
    operands = [x.name, m.b.weight(x.channels, out // group, *(2 for _ in x.space), fan_in=x.channels)]
    if m.flag():
        operands.append(m.vector(out))
    space = tuple((s - 1) * 2 + 2 for s in x.space)
    if prod(space) > 120:
        return pointwise(m, x)
    return Flow(m.op("ConvTranspose", *operands, strides=[2 for _ in space], group=group), "image", out, space)


def norm(m: Maker, x: Flow) -> Flow:
    if x.kind == "image" and prod(x.space) > 4 and m.flag(0.2):
        return replace(
            x, name=m.op("InstanceNormalization", x.name, m.b.vector(x.channels), m.b.vector(x.channels), epsilon=0.1)
        )
    variance = m.b.const(m.b.rng.uniform(0.5, 2.0, size=x.channels))
    operands = [m.vector(x.channels), m.vector(x.channels), m.b.vector(x.channels), variance]
    return replace(x, name=m.op("BatchNormalization", x.name, *operands))


def pool(m: Maker, x: Flow) -> Flow:
    if min(x.space) < 2:
        return norm(m, x)
    op = m.pick(["AveragePool"] if m.smooth else ["AveragePool", "MaxPool"])
    stride = m.pick([1, 2])
    space = tuple((s - 2) // stride + 1 for s in x.space)
    return replace(
        x, name=m.op(op, x.name, kernel_shape=[2 for _ in space], strides=[stride for _ in space]), space=space
    )


def pad(m: Maker, x: Flow) -> Flow:
    mode = m.pick(["constant", "edge", "reflect"] if min(x.space) > 1 else ["constant", "edge"])
    amounts = [m.rng.randint(0, 1) for _ in range(2 * len(x.space))]
    axes = len(x.space)
    before, after = amounts[:axes], amounts[axes:]
    name = m.op("Pad", x.name, m.literal([0, 0, *before, 0, 0, *after]), mode=mode)
    return replace(x, name=name, space=tuple(s + p + q for s, p, q in zip(x.space, before, after, strict=True)))


def resize(m: Maker, x: Flow) -> Flow:
    space = tuple(s * 2 for s in x.space)
    if prod(space) > 120:
        return pool(m, x)
    scales = m.b.const(np.array([1, 1, *(2 for _ in space)], dtype=np.float32))
    if isinstance(m.batch, int) and m.flag():
        sizes = m.literal([m.batch, x.channels, *space])
        return replace(x, name=m.op("Resize", x.name, "", "", sizes, mode="nearest"), space=space)
    return replace(x, name=m.op("Resize", x.name, "", scales, mode="nearest"), space=space)


def squeeze_excite(m: Maker, x: Flow) -> Flow:
    inner = m.pick([5, 7])
    pooled = (
        m.op("GlobalAveragePool", x.name)
        if m.flag()
        else m.op("ReduceMean", x.name, axes=list(range(2, 2 + len(x.space))))
    )
    if m.flag():
        ones = [1 for _ in x.space]
        squeezed = m.op("Conv", pooled, m.b.weight(inner, x.channels, *ones), m.vector(inner))
        gate = m.op("Conv", m.op("LeakyRelu", squeezed), m.b.weight(x.channels, inner, *ones), m.vector(x.channels))
    else:
        flat = m.op("Flatten", pooled)
        squeezed = m.op("LeakyRelu", m.b.gemm(flat, x.channels, inner))
        gate = m.b.gemm(squeezed, inner, x.channels)
        gate = m.op(
            "Reshape", gate, m.shape_of(x.name, [m.batch_entry(), m.pick([x.channels, "@1"]), *(1 for _ in x.space)])
        )
    return replace(x, name=m.op("Mul", x.name, m.op("Sigmoid", gate)))


def shuffle(m: Maker, x: Flow) -> Flow:
    if x.channels not in GROUPED:
        return other_conv(m, x)
    group = m.pick([3, x.channels // 3])
    apart = m.shape_of(x.name, [m.batch_entry(), group, x.channels // group, *x.space])
    order = [0, 2, 1, *range(3, 3 + len(x.space))]
    turned = m.op("Transpose", m.op("Reshape", x.name, apart), perm=order)
    if m.flag(0.3):
        turned = m.op("LeakyRelu", turned)
    back = m.shape_of(x.name, [m.batch_entry(), m.pick([x.channels, "@1"]), *x.space])
    return replace(x, name=m.op("Reshape", turned, back))


def channels_last(m: Maker, x: Flow) -> Flow:
    """As ConvNeXt does its pointwise layers."""
    rank = 2 + len(x.space)
    last = m.op("Transpose", x.name, perm=[0, *range(2, rank), 1])
    inner = m.pick(CHANNELS)
    hidden = m.op("Add", m.op("MatMul", last, m.matrix(x.channels, inner)), m.vector(inner))
    out = m.op("MatMul", m.op("Sigmoid", hidden), m.matrix(inner, x.channels))
    return replace(x, name=m.op("Transpose", out, perm=[0, rank - 1, *range(1, rank - 1)]))


def gated_by_space(m: Maker, x: Flow) -> Flow:
    """A one-channel map multiplied onto all channels: a convolution to one channel."""
    weight = m.b.weight(1, x.channels, *(1 for _ in x.space))
    return replace(x, name=m.op("Mul", x.name, m.op("Sigmoid", m.op("Conv", x.name, weight))))


def to_flat(m: Maker, x: Flow) -> Flow:
    size = x.channels * prod(x.space)
    form = m.pick(["pool", "flatten", "reshape", "mean", "sum"])
    axes = list(range(2, 2 + len(x.space)))
    if form == "pool":
        return Flow(m.op("Flatten", m.op("GlobalAveragePool", x.name)), "flat", x.channels)
    if form == "mean":
        return Flow(m.op("ReduceMean", x.name, axes=axes, keepdims=0), "flat", x.channels)
    if form == "sum":
        return Flow(m.op("ReduceSum", x.name, m.literal(axes), keepdims=0), "flat", x.channels)
    if size > 400:
        return to_flat(m, pool(m, x)) if min(x.space) > 1 else to_flat(m, pointwise(m, x, 5))
    if form == "flatten":
        return Flow(m.op("Flatten", x.name), "flat", size)
    rest: int | str = size
    batch = m.pick(["@0", 0, -1])
    if batch != -1 and m.flag():
        rest = -1
    return Flow(m.op("Reshape", x.name, m.shape_of(x.name, [batch, rest])), "flat", size)


def to_sequence(m: Maker, x: Flow) -> Flow:
    """(n, c, *space) as tokens (n, space, c), as a vision transformer does it."""
    if prod(x.space) < 2:
        return to_flat(m, x)
    flat = m.op("Reshape", x.name, m.shape_of(x.name, [m.batch_entry(), m.pick([x.channels, "@1"]), prod(x.space)]))
    return Flow(m.op("Transpose", flat, perm=[0, 2, 1]), "tokens", x.channels, (prod(x.space),))


# -- flat --


def gemm(m: Maker, x: Flow, out: int | None = None) -> Flow:
    out = out or m.pick(CHANNELS)
    attrs: dict[str, Any] = {}
    if m.flag(0.3):
        attrs |= {"alpha": 0.75, "beta": 1.25}
    if m.flag():
        weight, attrs["transB"] = m.matrix(out, x.channels), 1
    else:
        weight = m.matrix(x.channels, out)
    operands = [x.name, weight]
    form = m.pick(["vector", "vector", "none", "row", "scalar"])
    if form == "vector":
        operands.append(m.vector(out))
    elif form == "row":
        operands.append(m.b.weight(1, out))
    elif form == "scalar":
        operands.append(m.b.const(np.float32(0.3)))
    return Flow(m.op("Gemm", *operands, **attrs), "flat", out)


def turned_gemm(m: Maker, x: Flow) -> Flow:
    """Gemm with transA, on a transposed activation."""
    out = m.pick(CHANNELS)
    made = m.op("Gemm", m.op("Transpose", x.name), m.matrix(x.channels, out), m.vector(out), transA=1)
    return Flow(made, "flat", out)


def matmul(m: Maker, x: Flow, out: int | None = None) -> Flow:
    out = out or m.pick(CHANNELS)
    name = m.op("MatMul", x.name, m.matrix(x.channels, out))
    if m.flag(0.7):
        operands = [name, m.vector(out)]
        m.rng.shuffle(operands)
        name = m.op("Add", *operands)
    return replace(x, name=name, channels=out)


def same_gemm(m: Maker, x: Flow) -> Flow:
    inner = activation(m, gemm(m, x))
    return gemm(m, inner, x.channels)


def same_matmul(m: Maker, x: Flow) -> Flow:
    return matmul(m, matmul(m, x), x.channels)


def to_tokens(m: Maker, x: Flow) -> Flow:
    if x.channels not in GROUPED:
        return to_tokens(m, gemm(m, x, m.pick(GROUPED)))
    rows = m.pick([3, x.channels // 3])
    shape = m.shape_of(x.name, [m.batch_entry(), rows, x.channels // rows])
    return Flow(m.op("Reshape", x.name, shape), "tokens", x.channels // rows, (rows,))


# -- tokens --


def turn(m: Maker, x: Flow) -> Flow:
    return Flow(m.op("Transpose", x.name, perm=[0, 2, 1]), "tokens", x.space[0], (x.channels,))


def mix(m: Maker, x: Flow) -> Flow:
    """A mixer's layer over the tokens."""
    return turn(m, same_matmul(m, turn(m, x)))


def attention(m: Maker, x: Flow) -> Flow:
    inner, heads = m.pick(GROUPED), 3
    parts = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        made = matmul(m, x, inner).name
        shape = m.shape_of(made, [m.batch_entry(), m.pick([x.space[0], "@1"]), heads, inner // heads])
        parts.append(m.op("Transpose", m.op("Reshape", made, shape), perm=order))
    scores = m.op("Softmax", m.op("Mul", m.op("MatMul", parts[0], parts[1]), m.b.const(np.float32(0.5))), axis=-1)
    mixed = m.op("Transpose", m.op("MatMul", scores, parts[2]), perm=[0, 2, 1, 3])
    shape = m.shape_of(x.name, [m.batch_entry(), x.space[0], inner])
    return matmul(m, replace(x, name=m.op("Reshape", mixed, shape), channels=inner), x.channels)


def flatten_tokens(m: Maker, x: Flow) -> Flow:
    if m.flag():
        return Flow(m.op("Flatten", x.name), "flat", x.channels * x.space[0])
    shape = m.shape_of(x.name, [m.batch_entry(), x.channels * x.space[0]])
    return Flow(m.op("Reshape", x.name, shape), "flat", x.channels * x.space[0])


def mean_tokens(m: Maker, x: Flow) -> Flow:
    op = m.pick(["ReduceMean", "ReduceSum"])
    if op == "ReduceMean":
        return Flow(m.op(op, x.name, axes=[1], keepdims=0), "flat", x.channels)
    return Flow(m.op(op, x.name, m.literal([1]), keepdims=0), "flat", x.channels)


Step = Callable[[Maker, Flow], Flow]

_ANY: list[Step] = [activation, activation, residual, residual, concat, split]
WIDEN: dict[str, list[Step]] = {
    "image": [other_conv, other_conv, pointwise, depthwise_multiplied],
    "flat": [gemm, matmul],
    "tokens": [matmul],
}
SAME: dict[str, list[Step]] = {
    "image": [
        activation,
        same_conv,
        same_conv,
        depthwise,
        norm,
        squeeze_excite,
        shuffle,
        channels_last,
        twice_conv,
        gated_by_space,
        add_constant,
    ],
    "flat": [activation, same_gemm, same_matmul, norm, add_constant],
    "tokens": [activation, same_matmul, mix, attention, add_constant],
}
SAME["image"] = [step for step in SAME["image"] if step is not shuffle] + [
    lambda m, x: shuffle(m, x) if x.channels in GROUPED else norm(m, x)
]
STEPS: dict[str, list[Step]] = {
    "image": [
        *_ANY,
        *SAME["image"],
        conv,
        conv,
        conv,
        other_conv,
        pool,
        pad,
        resize,
        transposed_conv,
        depthwise_multiplied,
        shuffle,
        to_flat,
        to_sequence,
    ],
    "flat": [*_ANY, *SAME["flat"], gemm, gemm, matmul, turned_gemm, to_tokens, to_tokens],
    "tokens": [*_ANY, *SAME["tokens"], matmul, matmul, turn, flatten_tokens, mean_tokens],
}


def random_model(rng: random.Random, *, smooth: bool = False, longest: int = 8) -> onnx.ModelProto:
    """Make a model of a few random steps between an input and a linear head."""
    m = Maker(rng, smooth)
    flow = _entrance(m)
    for _ in range(rng.randint(1, longest)):
        flow = m.step(flow)
    outputs = [_head(m, flow)]
    if m.flag(0.15):
        outputs.append(m.op("Sigmoid", _head(m, m.step(flow))))
    return m.b.proto(*outputs, value_info=m.flag())


def _entrance(m: Maker) -> Flow:
    kind = m.pick(["image", "image", "flat", "tokens"])
    if kind == "image":
        space = m.pick([(7,), (9,), (5, 7), (7, 5), (6, 6)])
        return other_conv(m, Flow(m.b.input(m.batch, 3, *space), "image", 3, space))
    if kind == "flat":
        return gemm(m, Flow(m.b.input(m.batch, 13), "flat", 13))
    return matmul(m, Flow(m.b.input(m.batch, 5, 13), "tokens", 13, (5,)))


def _head(m: Maker, flow: Flow) -> str:
    """The layer before an output: its own channels cannot be cut, so that those before it have a consumer."""
    if flow.kind == "image" and m.flag(0.8):
        flow = to_flat(m, flow)
    if flow.kind == "image":
        return pointwise(m, flow, 7).name
    return matmul(m, flow, 7).name
