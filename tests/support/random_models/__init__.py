"""Random models out of everything that MLPs, CNNs, recurrent networks and transformers are made of, for the oracle.

`random_model(rng)` takes any `random.Random`; Hypothesis hands in one whose draws it can shrink, a tool seeds its own.
Sizes are products of odd primes, so that swapped axes cannot hide behind equal sizes.
"""

from __future__ import annotations

import random

import onnx

from tests.support.random_models.anywhere import (
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
from tests.support.random_models.attend import decoder_attention, fused_attention, fused_decoder
from tests.support.random_models.bodies import scanned, with_body
from tests.support.random_models.broadcasts import (
    dueling,
    gate_of_means,
    norm_of_positions,
    own_channels,
    position_gate,
    spread_by_length,
    table_of_positions,
    tied,
    unit_gate,
    unit_residual,
)
from tests.support.random_models.dense import (
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
from tests.support.random_models.ends import (
    End,
    auxiliary,
    bare_squeeze,
    features,
    joined,
    labels,
    largest,
    listed,
    mapped,
    passed,
    rows_above,
    scores,
    stored,
    stretched,
    suppressed,
)
from tests.support.random_models.fused import biased_gelu, fused_conv, fused_gemm, fused_product, skip_norm
from tests.support.random_models.images import (
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
from tests.support.random_models.maker import GROUPED, Flow, Maker, Step, Steps
from tests.support.random_models.network import Network, fill_types
from tests.support.random_models.rounded import rounded_conv, rounded_linear
from tests.support.random_models.states import stateful_model


def _shuffle_or_norm(m: Maker, x: Flow) -> Flow:
    return shuffle(m, x) if x.channels in GROUPED else norm(m, x)


_ANY: list[Step] = [activation, activation, residual, residual, concat, split, picked, sliced, with_body]
_SAME_ANY: list[Step] = [activation, add_constant, chosen, gelu, expanded, squeezed]
_WIDENING: dict[str, list[Step]] = {
    "image": [other_conv, other_conv, pointwise, depthwise_multiplied],
    "flat": [gemm, matmul, einsum, dequantised],
    "tokens": [matmul, einsum, recurrent, dequantised, scanned],
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

_BROADCASTS: list[Step] = [unit_gate, unit_residual, dueling, position_gate, gate_of_means, own_channels]
_TOKENS: list[Step] = [
    *(table_of_positions, norm_of_positions, spread_by_length, tied),
    *(decoder_attention, decoder_attention, decoder_attention, fused_decoder, fused_attention, recurrent),
]
_FUSED: list[Step] = [fused_product, biased_gelu, skip_norm]
_WIDE: dict[str, list[Step]] = {
    "image": [*_BROADCASTS, rounded_conv, fused_conv],
    "flat": [*_BROADCASTS, tied, rounded_linear, fused_gemm],
    "tokens": [*_BROADCASTS, *_TOKENS, rounded_linear, *_FUSED],
}
_WIDE_SAME: dict[str, list[Step]] = {
    "image": [unit_gate, position_gate, gate_of_means],
    "flat": [unit_gate, tied],
    "tokens": [unit_gate, gate_of_means, table_of_positions, norm_of_positions, tied, decoder_attention],
}
WIDE = Steps(
    {kind: steps + _WIDE[kind] * 2 for kind, steps in _ALL.items()},
    {kind: steps + _WIDE_SAME[kind] for kind, steps in _SAME.items()},
    {kind: [*steps, rounded_conv if kind == "image" else rounded_linear] for kind, steps in _WIDENING.items()},
)
"""What a whole run is tried on, beside what cuts are: broadcasts, decoders, 8 bits, inputs and outputs of their own."""

EARLY: list[End] = [scores, features, labels, scores]
ENDS: list[End] = [
    *(scores, scores, scores, scores, joined, features, labels, largest, bare_squeeze, mapped, listed),
    *(stored, passed, rows_above, suppressed, stretched),
]


def random_model(rng: random.Random, *, smooth: bool = False, longest: int = 8) -> onnx.ModelProto:
    """Make a model of a few random steps between an input and a linear head."""
    m = Maker(rng, STEPS, smooth)
    flow = _entrance(m)
    for _ in range(rng.randint(1, longest)):
        flow = m.step(flow)
    outputs = [_head(m, flow)]
    if m.flag(0.15):
        outputs.append(m.op("Sigmoid", _head(m, m.step(flow))))
    proto = m.b.proto(*outputs, value_info=m.flag())
    fill_types(proto, m)
    return proto


def random_stateful(rng: random.Random) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Make a model whose states are fed back; also return inputs -> the outputs that are fed back as them."""
    m = Maker(rng, STEPS)
    proto, states = stateful_model(m)
    fill_types(proto, m)
    return proto, states


def random_network(rng: random.Random, *, longest: int = 6) -> Network:
    """Make a network with all that can be around such a model: inputs and outputs of any number, kind and place."""
    m = Maker(rng, WIDE, wide=True)
    flow = _entrance(m)
    for _ in range(rng.randint(1, longest)):
        flow = m.step(flow)
        if m.flag(0.12):
            flow = m.noted(auxiliary, flow)
        elif m.flag(0.1):
            m.noted(m.pick(EARLY), flow)
    ends = [m.pick(ENDS) for _ in range(m.pick([1, 1, 2, 3]))]
    for end in ends:
        m.noted(end, flow)
        flow = m.step(flow) if m.flag(0.3) else flow
    return Network.of(m)


def _entrance(m: Maker) -> Flow:
    kind = m.pick(["image", "image", "flat", "tokens", *["tokens"] * (2 * m.wide)])
    if kind == "image":
        space = m.pick([(7,), (9,), (5, 7), (7, 5), (6, 6)])
        return other_conv(m, Flow(m.feed("x", (3, *space)), "image", 3, space))
    if kind == "flat":
        return gemm(m, Flow(m.feed("x", (13,)), "flat", 13))
    if m.wide and m.flag(0.3):
        words = m.op("Gather", m.b.weight(23, 11, fan_in=1), m.feed("input_ids", (5,), "ids", 23))
        return Flow(words, "tokens", 11, (5,))
    return matmul(m, Flow(m.feed("x", (5, 13)), "tokens", 13, (5,)))


def _head(m: Maker, flow: Flow) -> str:
    """The layer before an output: its own channels cannot be cut, so that those before it have a consumer."""
    if flow.kind == "image" and m.flag(0.8):
        flow = to_flat(m, flow)
    if flow.kind == "image":
        return pointwise(m, flow, 7).name
    return matmul(m, flow, 7).name
