"""Steps for images: convolutions of all sorts, pooling, resizing, gates, and ways out of images."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from tests.support.random_models.maker import CHANNELS, GROUPED, Flow, Maker


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


def depth_to_space(m: Maker, x: Flow) -> Flow:
    """Blocks of channels become pixels, or pixels become channels."""
    if len(x.space) != 2 or prod(x.space) * 4 > 150:
        return norm(m, x)
    deep = other_conv(m, x) if m.flag(0.3) else x
    deep = conv(m, deep, out=deep.channels * 4, kernel=1)
    space = (x.space[0] * 2, x.space[1] * 2)
    mode = m.pick(["DCR", "CRD"])
    return Flow(m.op("DepthToSpace", deep.name, blocksize=2, mode=mode), "image", deep.channels // 4, space)


def space_to_depth(m: Maker, x: Flow) -> Flow:
    if len(x.space) != 2 or any(size % 2 for size in x.space) or x.channels > 15:
        return norm(m, x)
    space = (x.space[0] // 2, x.space[1] // 2)
    return Flow(m.op("SpaceToDepth", x.name, blocksize=2), "image", x.channels * 4, space)


def grouped_norm(m: Maker, x: Flow) -> Flow:
    """As exporters write a normalisation over groups of channels."""
    groups = 3 if x.channels % 3 == 0 else 1
    ones, zeros = (m.b.const(np.full(groups, value, np.float32)) for value in (1, 0))
    apart = m.op("Reshape", x.name, m.shape_of(x.name, [m.batch_entry(), groups, x.channels // groups * prod(x.space)]))
    made = m.op("InstanceNormalization", apart, ones, zeros, epsilon=0.1)
    back = m.op("Reshape", made, m.op("Shape", x.name))
    shape = (x.channels, *(1 for _ in x.space))
    scaled = m.op("Mul", back, m.b.const(m.b.rng.uniform(0.5, 1.5, shape)))
    return replace(x, name=m.op("Add", scaled, m.b.const(m.b.rng.uniform(0.3, 1.5, shape))))  # else sums cancel out
