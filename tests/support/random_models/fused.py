"""Steps as onnxruntime's optimizers write them: several operators in one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.random_models.maker import CHANNELS, Flow, Maker

MICROSOFT = "com.microsoft"


def fused_product(m: Maker, x: Flow) -> Flow:
    """A product of tokens with a weight that may be turned, times a number."""
    out, turned = m.pick(CHANNELS), m.flag()
    weight = m.b.weight(*((out, x.channels) if turned else (x.channels, out)), fan_in=x.channels)
    made = m.op("FusedMatMul", x.name, weight, transB=int(turned), alpha=0.7, domain=MICROSOFT)
    return replace(x, name=made, channels=out)


def fused_gemm(m: Maker, x: Flow) -> Flow:
    """A dense layer with its activation."""
    out = m.pick(CHANNELS)
    operands = [x.name, m.b.weight(out, x.channels, fan_in=x.channels), m.vector(out)]
    function = m.pick(["Tanh", "Sigmoid"] if m.smooth else ["Relu", "Tanh", "LeakyRelu"])
    slope: dict[str, Any] = {"activation_alpha": 0.1} if function == "LeakyRelu" else {}
    made = m.op("FusedGemm", *operands, transB=1, activation=function, domain=MICROSOFT, **slope)
    return replace(x, name=made, channels=out)


def fused_conv(m: Maker, x: Flow) -> Flow:
    """A convolution that keeps the shape, with its activation and sometimes a residual that is added before it."""
    residual = m.flag(0.4) and len(x.space) == 2  # onnxruntime adds one to images alone
    out = x.channels if residual else m.pick(CHANNELS)
    sizes = [m.pick([1, 3]) for _ in x.space]
    operands = [x.name, m.b.weight(out, x.channels, *sizes), m.vector(out)]
    function = m.pick(["Tanh", "Sigmoid"] if m.smooth else ["Relu", "Tanh"])
    added = [x.name] if residual else []
    pads = [size // 2 for size in sizes] * 2
    made = m.op("FusedConv", *operands, *added, pads=pads, activation=function, domain=MICROSOFT)
    return replace(x, name=made, channels=out)


def biased_gelu(m: Maker, x: Flow) -> Flow:
    """A Gelu that adds a bias first."""
    made = m.op(m.pick(["BiasGelu", "FastGelu"]), x.name, m.b.vector(x.channels), domain=MICROSOFT)
    return replace(x, name=made)


def skip_norm(m: Maker, x: Flow) -> Flow:
    """A sum of two streams, normalized over the channels."""
    scale, shift = m.b.const(m.b.rng.uniform(0.5, 1.5, size=x.channels)), m.b.vector(x.channels)
    operands = [x.name, m.same_shape(x).name, scale]
    if m.flag():
        bias = [m.b.vector(x.channels)] if m.flag() else []
        made = m.op("SkipLayerNormalization", *operands, shift, *bias, epsilon=0.1, domain=MICROSOFT)
    else:
        made = m.op("SkipSimplifiedLayerNormalization", *operands, epsilon=0.1, domain=MICROSOFT)
    return replace(x, name=made)
