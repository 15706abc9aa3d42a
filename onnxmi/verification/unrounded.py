"""A quantized model without the rounding of its activations: its integers become the real numbers they stand in for.

Two such models of one network agree as closely as float models do, in whatever order their sums are; with rounding, one
last bit can move every number after it. Ranges stay: what an integer type cuts off (a Relu, often) is cut off here too.
The result is only run, never written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from onnxmi.model.bodies import STANDARD_DOMAINS, nested_nodes
from onnxmi.model.graph import Graph, Node

MICROSOFT = "com.microsoft"
_FLOAT = np.dtype(np.float32)  # of all real numbers here: onnxruntime knows most operators in it
_RANGED = frozenset(np.dtype(kind) for kind in (np.int8, np.uint8, np.int16, np.uint16))


@dataclass(frozen=True)
class TensorType:
    """What is known of a tensor: its type and shape."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Unrounded:
    """A model without rounding.

    Attributes
    ----------
    proto : onnx.ModelProto
        Its tensors are named as in the original.
    real : frozenset of str
        Tensors that are real numbers here, and integers in the original.
    complete : bool
        Whether no operator is left that rounds inside.
    """

    proto: onnx.ModelProto
    real: frozenset[str]
    complete: bool


def rounds_activations(proto: onnx.ModelProto) -> bool:
    """Whether any operator of a model rounds activations to integers."""
    operators = map(_operator, nested_nodes(proto.graph))
    return any(one in _ROUNDING or _rounds_inside(*one) for one in operators)


def without_rounding(proto: onnx.ModelProto, seen: Mapping[str, TensorType]) -> Unrounded | None:
    """Spell a model's quantized operators out in real numbers.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model; it is not changed.
    probe : mapping of tensor name to Seen
        All of its tensors that are arrays.

    Returns
    -------
    Unrounded or None
        None where something is done with integers that is not known for real numbers.
    """
    graph, writer = Graph(proto), _Writer(seen)
    try:
        for node, original in zip(graph.main, proto.graph.node, strict=True):
            writer.translate(node, original)
    except _UnknownMeaningError:
        return None
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    del made.graph.node[:], made.graph.value_info[:]
    made.graph.node.extend(writer.nodes)
    for output in made.graph.output:
        if output.name in writer.real:
            output.type.tensor_type.elem_type = TensorProto.FLOAT
    return Unrounded(made, frozenset(writer.real), _is_complete(proto))


def _is_complete(proto: onnx.ModelProto) -> bool:
    """Whether nothing rounds inside an operator, or in a body: those are left as they are."""
    main, everywhere = (Counter(map(_operator, nodes)) for nodes in (proto.graph.node, nested_nodes(proto.graph)))
    return not any(_rounds_inside(*one) for one in everywhere) and _ROUNDING.isdisjoint(everywhere - main)


def _operator(node: onnx.NodeProto) -> tuple[str, str]:
    return "" if node.domain in STANDARD_DOMAINS else node.domain, node.op_type


def _rounds_inside(domain: str, op: str) -> bool:
    """Whether an operator rounds in a way that is not known here."""
    known = (domain, op) in _MEANING
    return not known and any(word in op for word in ("Quant", "QLinear", "Integer", "QAttention", "QMoE"))


class _UnknownMeaningError(Exception):
    """What an operator does with integers is not known for real numbers."""


# -- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes the nodes of the model without rounding; `real` names what is a real number instead of an integer."""

    def __init__(self, seen: Mapping[str, TensorType]) -> None:
        self.probe = seen
        self.nodes: list[NodeProto] = []
        self.real = set[str]()

    def translate(self, node: Node, original: NodeProto) -> None:
        """Write one node of the original."""
        meaning = _MEANING.get((node.domain, node.op))
        held = [place for place, name in enumerate(node.inputs) if name in self.real]
        if meaning is not None:
            meaning(self, node, original)
        elif not self.real.isdisjoint(node.captures):
            raise _UnknownMeaningError
        elif not held or node.op in ("Shape", "Size"):
            self.nodes.append(original)
        elif node.op == "Cast":
            self._cast_of_real(node)
        else:
            self._moved(node, original, held)

    def _cast_of_real(self, node: Node) -> None:
        dtype = self.known(node.outputs[0]).dtype
        if dtype.kind in "iu":
            self.op("Identity", node.inputs[0], result=node.outputs[0])
            self.real.add(node.outputs[0])
        else:
            self.cast(node.inputs[0], dtype, node.outputs[0])

    def _moved(self, node: Node, original: NodeProto, held: Sequence[int]) -> None:
        """An operator that is the same for integers and real numbers."""
        values = _VALUES.get(node.op, ()) if not node.domain else ()
        places = range(len(node.inputs)) if values is None else values
        if not set(held) <= set(places):
            raise _UnknownMeaningError
        dtype = self.known(node.inputs[held[0]]).dtype
        inputs = [
            self.as_float(name) if name and place in places and self.known(name).dtype == dtype else name
            for place, name in enumerate(node.inputs)
        ]
        self.nodes.append(_node(node.op, inputs, node.outputs, original.attribute))
        self.real.update(name for name in node.outputs if name and self.known(name).dtype == dtype)

    # -- what meanings are written with --

    def op(self, op: str, *inputs: str, result: str | None = None, attributes: Iterable[AttributeProto] = ()) -> str:
        """Add a node with one result; return its name."""
        made = result or f"onnxmi.real{len(self.nodes)}"
        self.nodes.append(_node(op, inputs, [made], attributes))
        return made

    def constant(self, value: Any, dtype: Any = _FLOAT) -> str:
        """Store an array."""
        tensor = numpy_helper.from_array(np.asarray(value, dtype=dtype))
        return self.op("Constant", attributes=[helper.make_attribute("value", tensor)])

    def cast(self, name: str, dtype: np.dtype[Any], result: str | None = None) -> str:
        """Turn a tensor into another type."""
        to = helper.make_attribute("to", int(helper.np_dtype_to_tensor_dtype(dtype)))
        return self.op("Cast", name, result=result, attributes=[to])

    def known(self, name: str) -> TensorType:
        """Type and shape in the original."""
        found = self.probe.get(name)
        if found is None:
            raise _UnknownMeaningError
        return found

    def as_float(self, name: str) -> str:
        """Return a tensor in the type of real numbers."""
        return name if name in self.real or self.known(name).dtype == _FLOAT else self.cast(name, _FLOAT)

    def parameter(self, name: str, rank: int, axis: int) -> str:
        """Return a scale or a zero point: one number, or one for each position along an axis of its tensor."""
        shape, value = self.known(name).shape, self.as_float(name)
        if len(shape) > 1 or (len(shape) == 1 and shape[0] > 1 and not -rank <= axis < rank):
            raise _UnknownMeaningError  # one for each block
        if not shape:
            return value
        along = [-1 if place == axis % rank else 1 for place in range(rank)] if shape[0] > 1 else []
        return self.op("Reshape", value, self.constant(along, np.int64))

    def by_direction(self, name: str) -> str:
        """Return a scale or a zero point of a recurrent layer's weights: one for each direction, or for each gate."""
        directions, gates = (*self.known(name).shape, 1, 1)[:2]
        return self.op("Reshape", self.as_float(name), self.constant([directions, 1, gates], np.int64))

    def meant(self, node: Node, part: _Part) -> str:
        """Return what an operand of integers stands for."""
        name, scale, zero = (_operand(node, place) for place in (part.value, part.scale, part.zero))
        rank, value = len(self.known(name).shape), self.as_float(name)
        if zero:
            value = self.op("Sub", value, self.parameter(zero, rank, part.axis))
        return self.op("Mul", value, self.parameter(scale, rank, part.axis)) if scale else value

    def stored(self, value: str, node: Node, scale: int, zero: int, axis: int = 0) -> None:
        """Scale a result as its integers would be, within their range but not rounded."""
        result, (factor, offset) = node.outputs[0], (_operand(node, place) for place in (scale, zero))
        rank, dtype = len(self.known(result).shape), self.known(result).dtype
        if dtype not in _RANGED:
            raise _UnknownMeaningError
        value = self.op("Div", value, self.parameter(factor, rank, axis))
        if offset:
            value = self.op("Add", value, self.parameter(offset, rank, axis))
        value = self.op("Max", value, self.constant(np.iinfo(dtype).min))
        self.op("Min", value, self.constant(np.iinfo(dtype).max), result=result)
        self.real.add(result)

    def finished(self, value: str, node: Node) -> None:
        """Give a float result the type that it had."""
        self.cast(value, self.known(node.outputs[0]).dtype, node.outputs[0])


def _node(op: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Iterable[AttributeProto]) -> NodeProto:
    made = helper.make_node(op, list(inputs), list(outputs))
    made.attribute.extend(attributes)
    return made


def _operand(node: Node, place: int | None) -> str:
    return node.inputs[place] if place is not None and place < len(node.inputs) else ""


# -- what the operators mean ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """Positions of an operand of integers, its scale and its zero point; several of these lie along `axis`."""

    value: int
    scale: int | None
    zero: int | None
    axis: int = -1


Meaning = Callable[[_Writer, Node, NodeProto], None]


def _quantize(w: _Writer, node: Node, _original: NodeProto) -> None:
    w.stored(w.as_float(node.inputs[0]), node, 1, 2, int(node.attributes.get("axis", 1)))


def _dequantize(w: _Writer, node: Node, original: NodeProto) -> None:
    if node.inputs[0] in w.real:
        w.finished(w.meant(node, _Part(0, 1, 2, int(node.attributes.get("axis", 1)))), node)
    else:  # stored weights: nothing is rounded
        w.nodes.append(original)


def _dynamic_quantize(w: _Writer, node: Node, _original: NodeProto) -> None:
    """Scale and zero point as they come; the values are within their range."""
    value, scale, zero = node.outputs
    w.nodes.append(_node(node.op, node.inputs, [f"onnxmi.{value}", scale, f"onnxmi.{zero}"], ()))
    w.cast(f"onnxmi.{zero}", _FLOAT, zero)
    w.op("Add", w.op("Div", node.inputs[0], scale), zero, result=value)
    w.real.update((value, zero))


@dataclass(frozen=True)
class _FloatOperator:
    """A float operator on what the integers stand for, and its result scaled to integers again.

    Attributes
    ----------
    op : str
        The float operator.
    parts : tuple of _Part
        Its operands.
    result : pair of int or None
        Scale and zero point of its result; None where that is as it comes.
    bias : int or None
        A vector that is added.
    whole : bool
        Whether the result without a scale is an integer.
    """

    op: str
    parts: tuple[_Part, ...]
    result: tuple[int, int] | None = None
    bias: int | None = None
    whole: bool = False

    def __call__(self, w: _Writer, node: Node, original: NodeProto) -> None:
        if node.attributes.get("channels_last", 0):
            raise _UnknownMeaningError
        attributes = [a for a in original.attribute if a.name not in ("channels_last", "opset")]
        value = w.op(self.op, *(w.meant(node, part) for part in self.parts), attributes=attributes)
        bias = _operand(node, self.bias)
        if bias:
            value = w.op("Add", value, self._bias(w, node, bias))
        if self.result is not None:
            w.stored(value, node, *self.result)
        elif self.whole:
            w.op("Identity", value, result=node.outputs[0])
            w.real.add(node.outputs[0])
        else:
            w.finished(value, node)

    def _bias(self, w: _Writer, node: Node, name: str) -> str:
        """A bias of integers has the product of the operands' scales, and lies along the second axis of the result."""
        rank, along = len(w.known(node.outputs[0]).shape), 1 if self.op == "Conv" else -1
        value = w.parameter(name, rank, along)
        if w.known(name).dtype.kind in "iu":
            for part in self.parts:
                value = w.op("Mul", value, w.parameter(_operand(node, part.scale), rank, along))
        return value


def _gemm(w: _Writer, node: Node, original: NodeProto) -> None:
    if node.attributes.get("alpha", 1.0) != 1.0:
        raise _UnknownMeaningError  # of what scale its bias is
    result = (7, 8) if _operand(node, 7) else None
    columns = _Part(3, 4, 5, -2 if node.attributes.get("transB", 0) else -1)
    _FloatOperator("Gemm", (_Part(0, 1, 2, -2), columns), result, bias=6)(w, node, original)


def _lstm(w: _Writer, node: Node, original: NodeProto) -> None:
    """Its weights lie turned, (directions, inputs, gates), with a scale for each direction or for each gate."""
    stored = []
    for value, scale, zero in ((1, 8, 9), (2, 10, 11)):
        centered = w.op("Sub", w.as_float(node.inputs[value]), w.by_direction(node.inputs[zero]))
        meant = w.op("Mul", centered, w.by_direction(node.inputs[scale]))
        stored.append(w.op("Transpose", meant, attributes=[helper.make_attribute("perm", [0, 2, 1])]))
    w.nodes.append(_node("LSTM", [node.inputs[0], *stored, *node.inputs[3:8]], node.outputs, original.attribute))


def _concat(w: _Writer, node: Node, original: NodeProto) -> None:
    parts = [w.meant(node, _Part(place, place + 1, place + 2)) for place in range(2, len(node.inputs), 3)]
    w.stored(w.op("Concat", *parts, attributes=original.attribute), node, 0, 1)


def _with_float_activations(w: _Writer, node: Node, original: NodeProto) -> None:
    """MatMulNBits may round its activations; at this level of accuracy it does not."""
    kept = [a for a in original.attribute if a.name != "accuracy_level"]
    made = _node(node.op, node.inputs, node.outputs, [*kept, helper.make_attribute("accuracy_level", 1)])
    made.domain = node.domain
    w.nodes.append(made)


_ONE, _TWO = _Part(0, 1, 2), _Part(3, 4, 5)
_ROWS, _COLUMNS = _Part(0, 1, 2, -2), _Part(3, 4, 5, -1)
_CONV = _FloatOperator("Conv", (_ONE, _Part(3, 4, 5, 0)), (6, 7), bias=8)

_MEANING: Mapping[tuple[str, str], Meaning] = {
    **{(domain, "QuantizeLinear"): _quantize for domain in ("", MICROSOFT)},
    **{(domain, "DequantizeLinear"): _dequantize for domain in ("", MICROSOFT)},
    ("", "DynamicQuantizeLinear"): _dynamic_quantize,
    ("", "MatMulInteger"): _FloatOperator("MatMul", (_Part(0, None, 2, -2), _Part(1, None, 3, -1)), whole=True),
    ("", "ConvInteger"): _FloatOperator("Conv", (_Part(0, None, 2), _Part(1, None, 3, 0)), whole=True),
    **{(domain, "QLinearConv"): _CONV for domain in ("", MICROSOFT)},
    **{(domain, "QLinearMatMul"): _FloatOperator("MatMul", (_ROWS, _COLUMNS), (6, 7)) for domain in ("", MICROSOFT)},
    (MICROSOFT, "MatMulIntegerToFloat"): _FloatOperator("MatMul", (_Part(0, 2, 4, -2), _Part(1, 3, 5, -1)), bias=6),
    (MICROSOFT, "DynamicQuantizeMatMul"): _FloatOperator("MatMul", (_Part(0, None, None), _Part(1, 2, 3, -1)), bias=4),
    (MICROSOFT, "DynamicQuantizeLSTM"): _lstm,
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "MatMulNBits"): _with_float_activations,
    **{(MICROSOFT, f"QLinear{op}"): _FloatOperator(op, (_ONE, _TWO), (6, 7)) for op in ("Add", "Mul")},
    **{
        (MICROSOFT, f"QLinear{op}"): _FloatOperator(op, (_ONE,), (3, 4))
        for op in ("LeakyRelu", "Sigmoid", "AveragePool", "GlobalAveragePool", "Softmax")
    },
    (MICROSOFT, "QLinearConcat"): _concat,
}
"""(domain, operator) -> what it means for real numbers."""

_ROUNDING = _MEANING.keys() - {("", "DequantizeLinear"), (MICROSOFT, "DequantizeLinear")}

_ALL = None
# Operators that are the same for integers and real numbers -> the operands that are values; None for all.
_VALUES: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Max", "Min", "MatMul", "Concat", "Clip", "Relu", "Neg", "Abs"), _ALL),
    **dict.fromkeys(("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Expand", "Tile"), (0,)),
    **dict.fromkeys(("Slice", "Split", "Gather", "GatherElements", "GatherND", "DepthToSpace", "SpaceToDepth"), (0,)),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "ReduceSum"), (0,)),
    "Pad": (0, 2),
    "Where": (1, 2),
}
