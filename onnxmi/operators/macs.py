"""Multiply-accumulates of one operator, as a sum of products of sizes of axes.

Only products and convolutions are counted, also those inside fused operators: a fused operator counts what the nodes
that it stands for count. Elementwise work and reductions count nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

from onnxmi.model import Node
from onnxmi.typing import Shape

Shapes = Mapping[str, Shape]

MICROSOFT = "com.microsoft"
RESULT = -1  # place of the first result; the second's is -2, and so on


@dataclass(frozen=True)
class Axis:
    """An axis of an operand or of a result.

    Attributes
    ----------
    place : int
        Position of the operand, or `RESULT` and below for a result.
    axis : int
        Not negative.
    part : pair of int or None
        Its first position and the one after its last, where only a part of the axis counts.
    """

    place: int
    axis: int
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Work:
    """One product of sizes.

    Attributes
    ----------
    macs : int
        Multiply-accumulates.
    axes : tuple of Axis
        The axes whose sizes they are proportional to; nothing that a layer's size changes is missing.
    """

    macs: int
    axes: tuple[Axis, ...]


def work_of(node: Node, shapes: Shapes) -> tuple[Work, ...]:
    """Return what one node multiplies, on tensors of the given shapes; nothing where a shape is unknown."""
    counting = COUNTED.get((node.domain, node.op))
    if counting is None:
        return ()
    try:
        return tuple(counting(_Operands(node, shapes)))
    except _UnknownShapeError:
        return ()


def node_macs(node: Node, shapes: Shapes) -> int:
    """Multiply-accumulates of one node; 0 for operators that hold neither products nor convolutions."""
    return sum(work.macs for work in work_of(node, shapes))


class _UnknownShapeError(LookupError):
    """A tensor's shape is not known: its node is not counted."""


@dataclass(frozen=True)
class _Operands:
    """The shapes of what one node reads and makes."""

    node: Node
    shapes: Shapes

    def find(self, place: int) -> Shape | None:
        """Shape of an operand or a result; None where it is absent or unknown."""
        names = self.node.inputs if place >= 0 else self.node.outputs
        index = place if place >= 0 else RESULT - place
        return self.shapes.get(names[index]) if index < len(names) and names[index] else None

    def shape(self, place: int) -> Shape:
        """Shape of an operand or a result that has to be there."""
        found = self.find(place)
        if found is None:
            raise _UnknownShapeError(place)
        return found

    def axes(self, place: int) -> tuple[Axis, ...]:
        """All axes of an operand or a result."""
        return tuple(Axis(place, axis) for axis in range(len(self.shape(place))))

    def integer(self, name: str, default: int = 0) -> int:
        """An attribute."""
        return int(self.node.attributes.get(name, default))

    def work(self, axes: Sequence[Axis], times: int = 1) -> Work:
        """Multiply sizes of axes."""
        return Work(times * prod(self._size(axis) for axis in axes), tuple(axes))

    def _size(self, axis: Axis) -> int:
        return self.shape(axis.place)[axis.axis] if axis.part is None else axis.part[1] - axis.part[0]


Counting = Callable[[_Operands], Iterator[Work]]


# -- products and convolutions ----------------------------------------------------------------------------------------


def _product(at: _Operands) -> Iterator[Work]:
    left = len(at.shape(0))
    contracted = left - 1
    if at.integer("transA"):  # where the batch is turned, too, the contracted axis comes first of all
        contracted = 0 if at.integer("transBatchA") else left - 2
    yield at.work((*at.axes(RESULT), *([Axis(0, contracted)] if left else [])))


def _convolution(at: _Operands, weight: int) -> Iterator[Work]:
    yield at.work((*at.axes(RESULT), *at.axes(weight)[1:]))


def _transposed_convolution(at: _Operands) -> Iterator[Work]:
    yield at.work((*at.axes(0), *at.axes(1)[1:]))


def _recurrent(at: _Operands) -> Iterator[Work]:
    """Each step of each sample meets the weights of its input, then those of the state; padding counts as steps."""
    for weights in (1, 2):
        yield at.work((*at.axes(0)[:2], *at.axes(weights)))


# -- Einsum -----------------------------------------------------------------------------------------------------------

_LETTER = re.compile(r"\.\.\.|[A-Za-z]")


def _einsum(at: _Operands) -> Iterator[Work]:
    """Operands are multiplied one after another from the left; what no later one or the result has is summed."""
    left, arrow, right = str(at.node.attributes.get("equation", "")).partition("->")
    operands = [_labels(text, len(at.shape(place))) for place, text in enumerate(left.split(","))]
    sized = _sized(at, operands)
    every = [label for labels in operands for label in labels]
    counted = {label for label in every if every.count(label) == 1 or label.startswith(".")}  # without an arrow
    made = set(_labels(right, len(at.shape(RESULT)))) if arrow else counted
    held = set(operands[0])
    for place, labels in enumerate(operands[1:], 1):
        met = held | set(labels)
        yield at.work([sized[label] for label in sorted(met)])
        held = met & made.union(*operands[place + 1 :])


def _labels(text: str, rank: int) -> list[str]:
    """Letters of one operand; the axes under an ellipsis are called `.0`, `.1`, ... from the last."""
    letters = _LETTER.findall(text)
    hidden = [f".{number}" for number in reversed(range(rank - len(letters) + 1))]
    return [label for letter in letters for label in (hidden if letter == "..." else [letter])]


def _sized(at: _Operands, operands: Sequence[Sequence[str]]) -> dict[str, Axis]:
    """Letter -> the longest axis that it stands for: others of size one are repeated along it."""
    found: dict[str, Axis] = {}
    for place, labels in enumerate(operands):
        shape = at.shape(place)
        if len(labels) != len(shape):
            raise _UnknownShapeError(place)
        for axis, label in enumerate(labels):
            before = found.get(label)
            if before is None or at.shape(before.place)[before.axis] < shape[axis]:
                found[label] = Axis(place, axis)
    return found


# -- attention --------------------------------------------------------------------------------------------------------


def _attention(at: _Operands, past: int) -> Iterator[Work]:
    """Scores of all queries with all keys, and the values weighted by them; masks and windows save nothing."""
    keys = _positions(at, 0 if at.find(1) is None else 1, past)
    yield at.work(_queries(at), keys)
    yield at.work(at.axes(RESULT), keys)


def _queries(at: _Operands) -> tuple[Axis, ...]:
    """Axes of the queries, also where keys and values are packed beside them."""
    axes = at.axes(0)
    if len(axes) == 5:  # (batch, positions, heads, 3, channels)
        return (*axes[:3], axes[4])
    if at.find(1) is not None or not at.integer("kv_num_heads"):
        return axes
    heads, both = at.integer("num_heads"), 2 * at.integer("kv_num_heads")
    return (*axes[:2], Axis(0, 2, (0, at.shape(0)[2] // (heads + both) * heads)))


def _projected_attention(at: _Operands, past: int) -> Iterator[Work]:
    """Attention with the projections to queries, keys and values inside, in one matrix."""
    width = at.shape(1)[-1]
    queries = (at.node.attributes.get("qkv_hidden_sizes") or (width // 3,))[0]
    keys = _positions(at, 0, past)
    yield at.work((*at.axes(0), Axis(1, 1)))
    yield at.work((*at.axes(0)[:2], Axis(1, 1, (0, int(queries)))), keys)
    yield at.work(at.axes(RESULT), keys)


def _positions(at: _Operands, place: int, past: int) -> int:
    """How many positions are attended to, those in a cache included."""
    present = at.find(RESULT - 1)
    if present is not None and len(present) > 3:
        return present[-2]
    earlier, own = at.find(past), at.shape(place)
    return (own[1] if len(own) == 5 else own[-2]) + (earlier[-2] if earlier else 0)


# -- the table --------------------------------------------------------------------------------------------------------

COUNTED: Mapping[tuple[str, str], Counting] = {
    **dict.fromkeys((("", op) for op in ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")), _product),
    **dict.fromkeys(((MICROSOFT, op) for op in ("FusedMatMul", "FusedGemm", "TransposeMatMul", "QGemm")), _product),
    **dict.fromkeys(
        ((MICROSOFT, f"MatMul{kind}") for kind in ("IntegerToFloat", "Integer16", "NBits", "Bnb4", "FpQ4")), _product
    ),
    **dict.fromkeys(((MICROSOFT, op) for op in ("DynamicQuantizeMatMul", "SparseToDenseMatMul")), _product),
    **dict.fromkeys((("", op) for op in ("Conv", "ConvInteger", "DeformConv")), partial(_convolution, weight=1)),
    **dict.fromkeys(((MICROSOFT, op) for op in ("FusedConv", "NhwcFusedConv")), partial(_convolution, weight=1)),
    **dict.fromkeys(((domain, "QLinearConv") for domain in ("", MICROSOFT)), partial(_convolution, weight=3)),
    ("", "ConvTranspose"): _transposed_convolution,
    (MICROSOFT, "ConvTransposeWithDynamicPads"): _transposed_convolution,
    **dict.fromkeys((("", op) for op in ("RNN", "GRU", "LSTM")), _recurrent),
    (MICROSOFT, "DynamicQuantizeLSTM"): _recurrent,
    ("", "Einsum"): _einsum,
    ("", "Attention"): partial(_attention, past=4),
    (MICROSOFT, "MultiHeadAttention"): partial(_attention, past=6),
    (MICROSOFT, "DecoderMaskedMultiHeadAttention"): partial(_attention, past=5),
    (MICROSOFT, "GroupQueryAttention"): partial(_attention, past=3),
    (MICROSOFT, "Attention"): partial(_projected_attention, past=4),
    (MICROSOFT, "QAttention"): partial(_projected_attention, past=8),
}
"""(domain, operator) -> how it is counted."""
