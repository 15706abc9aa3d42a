"""Positions that nothing reads: a classifier reads its encoder's first position, and the last block works out them all.

`Gather(x, 0)` after operators that treat every position alike is the same as before them. It is moved up as far as
that holds: to a product of two activations, such as attention, or to a tensor that something else reads whole. What
was worked out for the other positions is not any more; the outputs stay what they were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from onnxmi.errors import stage
from onnxmi.model import Graph, Model, Node
from onnxmi.model.editor import Editor
from onnxmi.operators.rules.apply_signature import elementwise
from onnxmi.operators.rules.elementwise import RULES, first_operand
from onnxmi.runtime.probe import Probe
from onnxmi.typing import Shape
from onnxmi.verification.checks import check_same

Shapes = Mapping[str, Shape]
Carried = tuple[tuple[int, int], ...]  # operands that have the axis, and where
Flow = Callable[[Node, int, Shapes], "Carried | None"]

EITHER_END = (0, -1)  # positions that are there, and the same one, where an axis that broadcasts has size one


@dataclass(frozen=True)
class PositionReader:
    """A node that reads one position of an axis: `node` is a Gather with a stored index."""

    node: Node
    axis: int
    position: int


@dataclass(frozen=True)
class UnusedPositions:
    """What need be worked out for one position only.

    Attributes
    ----------
    readers : tuple of Reader
        The nodes that read that position.
    inside : mapping of node index to ((operand, axis, position), ...)
        Nodes to be run on it alone, with the operands that have the axis.
    """

    readers: tuple[PositionReader, ...] = ()
    inside: Mapping[int, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        names = ", ".join(reader.node.label for reader in self.readers)
        told = f"{names} reads one position: {len(self.inside)} operators before it work out no other any more"
        return (told,) if self.readers else ()


@stage("unused positions")
def hoist_position_gather(model: Model, seen: Probe) -> tuple[Model, UnusedPositions]:
    """Return the model with no position worked out that nothing reads; the model itself where there is none."""
    unread = find_unused_positions(model.graph, seen.shapes)
    if not saves_work(model.graph, unread):
        return model, UnusedPositions()
    narrowed = replace(model, proto=_hoisted(model, unread))
    return (narrowed, unread) if check_same(model, narrowed, seen, ()).passed else (model, UnusedPositions())


def find_unused_positions(graph: Graph, shapes: Shapes) -> UnusedPositions:
    """Go up from what reads single positions, for as long as everything in between treats positions alike."""
    asked: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    inside: dict[int, tuple[tuple[int, int, int], ...]] = {}
    readers = []
    for node in reversed(graph.nodes):
        reader = _reader(graph, node, shapes)
        if reader is not None:
            readers.append(reader)
            asked[node.inputs[0]].append((reader.axis, reader.position))
            continue
        wanted = {_position_read(graph, name, asked) for name in node.outputs if name in graph.consumers}
        only = wanted.pop() if len(wanted) == 1 else None
        if only is None or not graph.exposed.isdisjoint(node.outputs):
            continue
        axis, position = only
        flow = FLOWS.get((node.domain, node.op))
        carried = flow(node, axis, shapes) if flow is not None else None
        if not carried or any(node.inputs[operand] in graph.folded for operand, _ in carried):
            continue
        inside[node.index] = tuple((operand, at, position) for operand, at in carried)
        for operand, at in carried:
            asked[node.inputs[operand]].append((at, position))
    made = {name for index in inside for name in graph.nodes[index].outputs}
    return UnusedPositions(tuple(reader for reader in readers if reader.node.inputs[0] in made), inside)


def _position_read(graph: Graph, name: str, asked: Mapping[str, list[tuple[int, int]]]) -> tuple[int, int] | None:
    """The axis and the one position that everything that reads a tensor wants; None where something wants more."""
    requests = asked.get(name, [])
    return requests[0] if len(set(requests)) == 1 and len(requests) == len(graph.consumers.get(name, ())) else None


def _reader(graph: Graph, node: Node, shapes: Shapes) -> PositionReader | None:
    if (node.domain, node.op) != ("", "Gather") or not graph.is_constant(node.inputs[1]):
        return None
    index, shape = graph.constant(node.inputs[1]), shapes.get(node.inputs[0], ())
    axis = int(node.attributes.get("axis", 0)) % max(len(shape), 1)
    if index.size != 1 or int(index.flat[0]) not in EITHER_END or not shape or shape[axis] == 1:
        return None
    return PositionReader(node, axis, int(index.flat[0]))


def saves_work(graph: Graph, unread: UnusedPositions) -> bool:
    """Whether there is a product with stored weights; moving a Gather over less is not worth a node."""
    nodes = [graph.nodes[index] for index in unread.inside]
    return any(node.op in _PRODUCTS and node.inputs[1] in graph.folded for node in nodes)


# -- how an axis of the result goes up to the operands ----------------------------------------------------------------


def _broadcast(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    """Element by element: every operand that is not of size one where the axis is."""
    return tuple(_aligned(node, axis, shapes, range(len(node.inputs))))


def _first(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    return ((0, axis),)


def _aligned(node: Node, axis: int, shapes: Shapes, operands: range) -> Iterator[tuple[int, int]]:
    """Operands whose axis, counted from the right, is the result's and not of size one."""
    from_right = len(shapes[node.outputs[0]]) - axis
    for operand in operands:
        shape = shapes.get(node.inputs[operand], ()) if node.inputs[operand] else ()
        if from_right <= len(shape) and shape[-from_right] != 1:
            yield operand, len(shape) - from_right


def _matmul(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    """Rows come from the left operand; leading axes broadcast; columns are left alone."""
    ranks = [len(shapes[name]) for name in node.inputs[:2]]
    from_right = len(shapes[node.outputs[0]]) - axis
    if min(ranks) < 2 or from_right == 1:
        return None
    return tuple(_aligned(node, axis, shapes, range(1 if from_right == 2 else 2)))


def _gemm(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    if axis != 0 or node.attributes.get("transA", 0):
        return None
    return ((0, 0), *_aligned(node, axis, shapes, range(2, len(node.inputs))))


def _normalization(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    """Axes before the normalised ones; mean and deviation are other results, of other shapes."""
    rank = len(shapes[node.outputs[0]])
    if axis >= int(node.attributes.get("axis", -1)) % rank or any(node.outputs[1:]):
        return None
    return tuple(_aligned(node, axis, shapes, range(len(node.inputs))))


def _skip_normalization(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    """Over the last axis; the sum is another result, of the same shape."""
    rank = len(shapes[node.outputs[0]])
    return tuple(_aligned(node, axis, shapes, range(len(node.inputs)))) if axis < rank - 1 else None


def _softmax(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    """Axes before the one it runs over: before opset 13 it ran over that and all after it."""
    rank = len(shapes[node.outputs[0]])
    return ((0, axis),) if axis < int(node.attributes.get("axis", -1)) % rank else None


def _reduction(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    """Axes before all that differ, where the number of axes stays: what is reduced lies behind the axis."""
    before, after = shapes[node.inputs[0]], shapes[node.outputs[0]]
    return ((0, axis),) if len(before) == len(after) and before[: axis + 1] == after[: axis + 1] else None


def _transpose(node: Node, axis: int, shapes: Shapes) -> Carried | None:
    order = node.attributes.get("perm") or tuple(reversed(range(len(shapes[node.inputs[0]]))))
    return ((0, int(order[axis])),)


_REDUCTIONS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL2 ReduceL1 ReduceSumSquare ReduceProd"
_PRODUCTS = ("MatMul", "Gemm")
FLOWS: dict[tuple[str, str], Flow] = {
    **{key: _broadcast for key, rule in RULES.items() if rule is elementwise},
    **{key: _first for key, rule in RULES.items() if rule is first_operand},
    **{("", op): _reduction for op in _REDUCTIONS.split()},
    **{("", op): _softmax for op in ("Softmax", "LogSoftmax")},
    **{("", op): _normalization for op in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")},
    **{
        ("com.microsoft", op): _skip_normalization
        for op in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
    },
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("", "Transpose"): _transpose,
}


# -- the rewrite ------------------------------------------------------------------------------------------------------


def _hoisted(model: Model, unread: UnusedPositions) -> onnx.ModelProto:
    graph, editor = model.graph, Editor(model.proto, model.spill_file)
    made = {name for index in unread.inside for name in graph.nodes[index].outputs if name}
    taken: dict[tuple[str, int, int], str] = {}
    for index in sorted(unread.inside):
        for operand, axis, position in unread.inside[index]:
            name = graph.nodes[index].inputs[operand]
            if name in made:
                continue
            key = name, axis, position
            if key not in taken:
                taken[key] = editor.take(name, axis, position, before=index)
            editor.set_input(index, operand, taken[key])
    for reader in unread.readers:
        zero = np.zeros_like(graph.constant(reader.node.inputs[1]))
        editor.set_input(reader.node.index, 1, editor.add_initializer(reader.node.inputs[1], zero))
    editor.remove((), made)
    return editor.finish()
