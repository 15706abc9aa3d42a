"""Unused positions: a classifier reads its encoder's first position, and the last block works out them all.

`Gather(x, 0)` after operators that treat every position alike is the same as before them. It is moved up as far as
that holds: to a product of two activations, such as attention, or to a tensor that something else reads whole. What
was worked out for the other positions is not any more; the outputs stay what they were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from onnxmi.errors import stage
from onnxmi.model import Graph, Model, Node
from onnxmi.model.editor import Editor
from onnxmi.operators.positionwise import PositionContext, Shapes
from onnxmi.operators.registry import operator_of
from onnxmi.runtime.probe import Probe
from onnxmi.verification.checks import check_same

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
    for node in reversed(graph.main):
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
        rule = operator_of(node).positionwise
        carried = None if rule is None else rule(PositionContext(node, axis, shapes, graph.opset))
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
    if not operator_of(node).gathers or not graph.is_constant(node.inputs[1]):
        return None
    index, shape = graph.constant(node.inputs[1]), shapes.get(node.inputs[0], ())
    axis = int(node.attributes.get("axis", 0)) % max(len(shape), 1)
    if index.size != 1 or int(index.flat[0]) not in EITHER_END or not shape or shape[axis] == 1:
        return None
    return PositionReader(node, axis, int(index.flat[0]))


def saves_work(graph: Graph, unread: UnusedPositions) -> bool:
    """Whether there is a product with stored weights; moving a Gather over less is not worth a node."""
    nodes = [graph.nodes[index] for index in unread.inside]
    return any(node.inputs[layout.weight] in graph.folded for node in nodes for layout in operator_of(node).layouts)


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
