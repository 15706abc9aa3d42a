"""Ends of a network: what it hands out, as tensors of numbers, labels, sequences, maps, or as many rows as values say.

Each takes a flow, adds outputs to the maker, and hands the flow on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import onnx

from tests.support.random_models.anywhere import activation
from tests.support.random_models.dense import flatten_tokens, matmul, mean_tokens, to_tokens
from tests.support.random_models.images import pointwise, to_flat, to_sequence
from tests.support.random_models.maker import Flow, Made, Maker, channel_axis

End = Callable[[Maker, Flow], None]


def as_flat(m: Maker, x: Flow) -> Flow:
    """(n, c)."""
    if x.kind == "image":
        return to_flat(m, x)
    if x.kind == "tokens":
        return flatten_tokens(m, x) if m.flag(0.3) and x.channels * prod(x.space) < 100 else mean_tokens(m, x)
    return x


def as_tokens(m: Maker, x: Flow) -> Flow:
    """(n, t, c)."""
    made = {"image": to_sequence, "flat": to_tokens}.get(x.kind, lambda _, flow: flow)(m, x)
    return made if made.kind == "tokens" else as_tokens(m, made)


def head(m: Maker, x: Flow, out: int = 7) -> Flow:
    """The layer before an output: its own channels cannot be cut, so that those before it have a consumer."""
    if x.kind == "image" and m.flag(0.7):
        x = to_flat(m, x)
    return pointwise(m, x, out) if x.kind == "image" else matmul(m, x, out)


# -- tensors ----------------------------------------------------------------------------------------------------------


def scores(m: Maker, x: Flow) -> None:
    """Numbers, logits, chances of each class, or chances that add up to one."""
    made = head(m, x)
    last = channel_axis(made) if made.kind == "image" else -1
    form = m.pick(["numbers", "numbers", "Sigmoid", "Softmax", "scaled"])
    name = made.name
    if form == "scaled":  # offsets and units that differ from column to column
        shape = (made.channels, *(1 for _ in made.space)) if made.kind == "image" else (made.channels,)
        size = m.b.const(10.0 ** m.b.rng.uniform(-1, 2, size=shape))
        name = m.op("Add", m.op("Mul", name, size), m.b.const(m.b.rng.uniform(-50, 50, size=shape)))
    elif form != "numbers":
        name = m.op(form, name, **({"axis": last} if form == "Softmax" else {}))
    m.outputs.append(Made(name, last))


def joined(m: Maker, x: Flow) -> None:
    """Boxes and classes of a detector side by side: columns in different units."""
    tokens = as_tokens(m, x)
    boxes, classes = (matmul(m, tokens, size).name for size in (4, 3))
    parts = [m.op("Mul", boxes, m.b.const(np.float32(40))), m.op("Sigmoid", classes)]
    name = m.op("Concat", *parts, axis=2)
    m.outputs.append(Made(name, 2) if m.flag() else Made(m.op("Transpose", name, perm=[0, 2, 1]), 1))


def features(m: Maker, x: Flow) -> None:
    """A tensor on its way is an output as it is."""
    m.outputs.append(Made(x.name, channel_axis(x)))


def auxiliary(m: Maker, x: Flow) -> Flow:
    """A head of its own whose result is read on by the layers after it."""
    made = pointwise(m, x, 5) if x.kind == "image" else matmul(m, x, 5)
    m.outputs.append(Made(made.name, channel_axis(made)))
    if m.flag():
        name = m.op("Concat", x.name, made.name, axis=channel_axis(x))
        return replace(x, name=name, channels=x.channels + made.channels)
    back = pointwise(m, made, x.channels) if x.kind == "image" else matmul(m, made, x.channels)
    return replace(x, name=m.op("Add", *m.shuffled([x.name, back.name])))


# -- labels, sequences and maps ---------------------------------------------------------------------------------------


def labels(m: Maker, x: Flow) -> None:
    """The class of the largest score, with the scores or without."""
    made = matmul(m, as_flat(m, x), 5)
    m.outputs.append(Made(m.op("ArgMax", made.name, axis=1, keepdims=m.pick([0, 1]))))
    if m.flag():
        m.outputs.append(Made(m.op("Softmax", made.name, axis=1), 1))


def largest(m: Maker, x: Flow) -> None:
    """The largest scores and whose they are."""
    made = matmul(m, as_flat(m, x), 7)
    values, which = m.op("TopK", made.name, m.literal([2]), outputs=2)
    m.outputs += [Made(values, 1), Made(which)] if m.flag() else [Made(which)]


def bare_squeeze(m: Maker, x: Flow) -> None:
    """Scores behind a Squeeze that names no axes: of one sample, that axis goes, too."""
    row = m.op("Unsqueeze", matmul(m, as_flat(m, x), 5).name, m.literal([1]))
    # Where the size of batches is fixed to one, all outputs would be without an axis of samples.
    made = m.op("Squeeze", row, *([m.literal([1])] if m.batch == 1 else []))
    ends = {"Softmax": {"axis": -1}, "Tanh": {}, "": {}}  # behind a Tanh there is no way back to before it
    end = m.pick(list(ends))
    m.outputs.append(Made(m.op(end, made, **ends[end]) if end else made, 1))


def mapped(m: Maker, x: Flow) -> None:
    """As scikit-learn's converter does it by default: a label, and chances by class in a sequence of maps."""
    chances = m.op("Softmax", matmul(m, as_flat(m, x), 3).name, axis=1)
    if m.flag(0.7):
        m.outputs.append(Made(m.op("ArgMax", chances, axis=1, keepdims=0)))
    named = {"classlabels_int64s": [0, 1, 2]} if m.flag() else {"classlabels_strings": ["a", "b", "c"]}
    m.outputs.append(Made(m.op("ZipMap", chances, domain="ai.onnx.ml", **named)))


def listed(m: Maker, x: Flow) -> None:
    """A sequence of tensors."""
    made = [matmul(m, as_flat(m, x), size).name for size in (3, 5)[: m.pick([1, 2])]]
    m.outputs.append(Made(m.op("SequenceConstruct", *made)))


# -- what no layer makes ----------------------------------------------------------------------------------------------


def stored(m: Maker, x: Flow) -> None:
    """A stored tensor: a table that nothing reads, or a weight of the network."""
    name = m.b.const(m.b.rng.normal(size=(5, 3)))
    if m.flag():
        name = m.b.weight(x.channels, 3, fan_in=x.channels)
        flat = as_flat(m, x)
        if flat.channels == x.channels:
            m.outputs.append(Made(m.op("MatMul", flat.name, name), 1))
    m.outputs.append(Made(name, None, _type(name, [*m.b.initializers[name].shape])))


def passed(m: Maker, x: Flow) -> None:
    """An input, handed out as it is."""
    fed = m.pick(m.feeds)
    if m.flag():
        m.outputs.append(Made(m.op("Identity", fed.name)))
    else:
        kind = onnx.TensorProto.FLOAT if fed.how == "normal" else onnx.TensorProto.INT64
        m.outputs.append(Made(fed.name, None, _type(fed.name, [m.batch, *fed.dims], kind)))


def _type(name: str, dims: list[int | str], kind: int = onnx.TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, kind, dims)


# -- sizes that values decide -----------------------------------------------------------------------------------------


def rows_above(m: Maker, x: Flow) -> None:
    """Those tokens whose own score is above zero, all samples in one list."""
    tokens = as_tokens(m, x)
    above = m.op("Greater", matmul(m, tokens, 1).name, m.b.const(np.float32(0)))
    places = m.op("Transpose", m.op("NonZero", m.op("Squeeze", above, m.literal([2]))), perm=[1, 0])
    rows = m.op("GatherND", activation(m, tokens).name, places)
    m.outputs.append(Made(matmul(m, Flow(rows, "flat", tokens.channels), 5).name))


def suppressed(m: Maker, x: Flow) -> None:
    """Boxes that overlap a better one are left out: which ones stay, and sometimes where they are."""
    tokens = as_tokens(m, x)
    center, size = (m.op("Sigmoid", matmul(m, tokens, 2).name) for _ in range(2))
    half = m.op("Mul", size, m.b.const(np.float32(0.3)))
    boxes = m.op("Concat", m.op("Sub", center, half), m.op("Add", center, half), axis=2)
    chances = m.op("Transpose", m.op("Sigmoid", matmul(m, tokens, 3).name), perm=[0, 2, 1])
    limits = (m.literal([4]), m.b.const(np.float32([0.5])), m.b.const(np.float32([0.4])))
    kept = m.op("NonMaxSuppression", boxes, chances, *limits)
    if m.flag():
        columns = m.op("Gather", kept, m.b.const(np.array([0, 2], np.int64)), axis=1)
        m.outputs.append(Made(m.op("GatherND", boxes, columns)))
    if m.flag(0.7) or not m.outputs:
        m.outputs.append(Made(kept))


def stretched(m: Maker, x: Flow) -> None:
    """As long as the longest duration, which the network computes: text to speech."""
    flat = as_flat(m, x)
    duration = m.op("Mul", m.op("Sigmoid", matmul(m, flat, 1).name), m.b.const(np.float32(6)))
    longest = m.op("Cast", m.op("Ceil", m.op("ReduceMax", duration, keepdims=0)), to=onnx.TensorProto.INT64)
    shape = m.op("Concat", m.literal([1]), m.op("Reshape", longest, m.literal([1])), m.literal([1]), axis=0)
    spread = m.op("Expand", m.op("Unsqueeze", flat.name, m.literal([1])), shape)
    places = m.op("Range", m.b.const(np.int64(0)), longest, m.b.const(np.int64(1)))
    waves = m.op("Unsqueeze", m.op("Sin", m.op("Cast", places, to=onnx.TensorProto.FLOAT)), m.literal([1]))
    made = m.op("Add", spread, waves)
    m.outputs.append(Made(matmul(m, Flow(made, "tokens", flat.channels, (1,)), 3).name))
