"""Random models out of everything that MLPs, CNNs, recurrent networks and transformers are made of, for the oracle.

`random_model(rng)` takes any `random.Random`; Hypothesis hands in one whose draws it can shrink, a tool seeds its own.
Sizes are products of odd primes, so that swapped axes cannot hide behind equal sizes.
"""

from __future__ import annotations

import random

import onnx

from support.random_models.anywhere import (
    activation,
    add_constant,
    chosen,
    concat,
    expanded,
    gelu,
    picked,
    residual,
    sliced,
    split,
    squeezed,
)
from support.random_models.dense import (
    attention,
    batch_norm,
    cumulated,
    dequantised,
    einsum,
    first_token,
    flatten_tokens,
    gemm,
    largest_token,
    layer_norm,
    matmul,
    mean_tokens,
    mix,
    recurrent,
    same_gemm,
    same_matmul,
    to_tokens,
    turn,
    turned_gemm,
)
from support.random_models.images import (
    channels_last,
    conv,
    depth_to_space,
    depthwise,
    depthwise_multiplied,
    gated_by_space,
    grouped_norm,
    norm,
    other_conv,
    pad,
    pointwise,
    pool,
    resize,
    same_conv,
    shuffle,
    space_to_depth,
    squeeze_excite,
    to_flat,
    to_sequence,
    transposed_conv,
    twice_conv,
)
from support.random_models.maker import GROUPED, Flow, Maker, Step, Steps


def _shuffle_or_norm(m: Maker, x: Flow) -> Flow:
    return shuffle(m, x) if x.channels in GROUPED else norm(m, x)


_ANY: list[Step] = [activation, activation, residual, residual, concat, split, picked, sliced]
_SAME_ANY: list[Step] = [activation, add_constant, chosen, gelu, expanded, squeezed]
_WIDENING: dict[str, list[Step]] = {
    "image": [other_conv, other_conv, pointwise, depthwise_multiplied],
    "flat": [gemm, matmul, einsum, dequantised],
    "tokens": [matmul, einsum, recurrent, dequantised],
}
_SAME: dict[str, list[Step]] = {
    "image": [
        *_SAME_ANY,
        same_conv,
        same_conv,
        depthwise,
        norm,
        grouped_norm,
        squeeze_excite,
        channels_last,
        twice_conv,
        gated_by_space,
        _shuffle_or_norm,
    ],
    "flat": [*_SAME_ANY, same_gemm, same_matmul, batch_norm, layer_norm],
    "tokens": [*_SAME_ANY, same_matmul, mix, attention, layer_norm, cumulated],
}
_ALL: dict[str, list[Step]] = {
    "image": [
        *_ANY,
        *_SAME["image"],
        conv,
        conv,
        conv,
        other_conv,
        pool,
        pad,
        resize,
        transposed_conv,
        depthwise_multiplied,
        depth_to_space,
        space_to_depth,
        shuffle,
        to_flat,
        to_sequence,
    ],
    "flat": [*_ANY, *_SAME["flat"], gemm, gemm, *_WIDENING["flat"], turned_gemm, to_tokens, to_tokens],
    "tokens": [
        *_ANY,
        *_SAME["tokens"],
        *_WIDENING["tokens"],
        matmul,
        turn,
        flatten_tokens,
        mean_tokens,
        largest_token,
        first_token,
    ],
}
STEPS = Steps(_ALL, _SAME, _WIDENING)


def random_model(rng: random.Random, *, smooth: bool = False, longest: int = 8) -> onnx.ModelProto:
    """Make a model of a few random steps between an input and a linear head."""
    m = Maker(rng, STEPS, smooth)
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
