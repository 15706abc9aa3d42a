"""Steps of quantized models: stored in 8 bits what is multiplied, and rounded to 8 bits what it is multiplied with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.support.random_models.maker import CHANNELS, Flow, Maker


def rounded(m: Maker, x: str) -> str:
    """A tensor as its 8 bits tell it: one scale and zero point for all of it."""
    kind, zero = m.pick([(np.uint8, 128), (np.int8, 0)])
    scale, origin = m.b.const(np.float32(0.04)), m.b.const(kind(zero))
    return str(m.op("DequantizeLinear", m.op("QuantizeLinear", x, scale, origin), scale, origin))


def stored(m: Maker, shape: tuple[int, ...], axis: int, fan_in: int) -> str:
    """A weight in 8 bits, with a scale for all of it or for each of its outputs."""
    values = m.b.const(np.clip(np.round(m.b.rng.normal(size=shape) * 45), -127, 127).astype(np.int8))
    size = 1 / 45 / np.sqrt(fan_in)
    if m.flag(0.3):
        return str(m.op("DequantizeLinear", values, m.b.const(np.float32(size)), m.b.const(np.int8(0))))
    scales = m.b.const(m.b.rng.uniform(0.7, 1.4, size=shape[axis]) * size)
    return str(m.op("DequantizeLinear", values, scales, m.b.const(np.zeros(shape[axis], np.int8)), axis=axis))


def rounded_linear(m: Maker, x: Flow) -> Flow:
    out = m.pick(CHANNELS)
    weight = stored(m, (x.channels, out), 1, x.channels)
    made = m.op("Add", m.op("MatMul", rounded(m, x.name), weight), m.vector(out))
    return replace(x, name=rounded(m, made) if m.flag(0.4) else made, channels=out)


def rounded_conv(m: Maker, x: Flow) -> Flow:
    out = m.pick(CHANNELS)
    kernel = [3 if size > 2 else 1 for size in x.space]
    weight = stored(m, (out, x.channels, *kernel), 0, x.channels * int(np.prod(kernel)))
    pads = [size // 2 for size in kernel] * 2
    made = m.op("Conv", rounded(m, x.name), weight, m.vector(out), pads=pads)
    return replace(x, name=rounded(m, m.op("Relu", made)) if m.flag(0.4) else made, channels=out)
