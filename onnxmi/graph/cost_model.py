"""What a model would cost if its layers had other sizes, without cutting it.

A cost is a sum of pieces, each proportional to the sizes of a few axes: a stored tensor to those of its own axes, the
work of an operator to those of its result and of what it contracts over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
from operator import add, mul

import numpy as np

from onnxmi.axes.terms import AtomId, Dim, Sum, Term, atoms, stretch
from onnxmi.graph.channel_graph import ChannelGraph, LayerId
from onnxmi.graph.macs import work_of
from onnxmi.model import Graph, Node
from onnxmi.operators.macs import RESULT, Axis, Shapes
from onnxmi.typing import Floats, Ints

Size = int | Ints
Counts = Mapping[LayerId, Size]
"""Layer id -> units that stay (of each part); several at once for one layer, as an array. An absent one is whole."""


def size_under(term: Term, counts: Counts) -> Size:
    """Size that an axis has if layers have other counts."""
    if isinstance(term, Dim):
        return counts.get(LayerId(term.id), term.size)
    parts = term.parts if isinstance(term, Sum) else term.factors
    combine = add if isinstance(term, Sum) else mul
    return reduce(combine, (size_under(part, counts) for part in parts))


@dataclass(frozen=True)
class Piece:
    """A part of a cost: `full` if nothing is cut, and proportional to the sizes of some axes, in whole blocks."""

    full: float
    terms: tuple[Term, ...]
    block: int = 1

    def at(self, counts: Counts) -> Floats:
        """Cost under other counts."""
        share: Floats = np.asarray(self.full, dtype=np.float64)
        for term in self.terms:
            share = share * -(-size_under(term, counts) // self.block) / -(-term.size // self.block)
        return share


@dataclass(frozen=True, eq=False)
class CostModel:
    """A cost as a function of the layers' sizes.

    Attributes
    ----------
    fixed : float
        What no cut changes.
    pieces : tuple of Piece
        What cuts change.
    """

    fixed: float
    pieces: tuple[Piece, ...]

    @staticmethod
    def of(pieces: Iterable[Piece], layers: Iterable[LayerId]) -> CostModel:
        """Add pieces up; what is proportional to the same axes becomes one, what no layer changes is fixed."""
        wanted = set(layers)
        sums: dict[tuple[tuple[Term, ...], int], float] = defaultdict(float)
        for piece in pieces:
            terms = tuple(t for t in piece.terms if any(atom.id in wanted for atom in atoms(t)))
            sums[terms, piece.block if terms else 1] += piece.full
        fixed = sums.pop(((), 1), 0.0)
        return CostModel(fixed, tuple(Piece(full, terms, block) for (terms, block), full in sums.items() if full))

    @cached_property
    def _by_layer(self) -> Mapping[AtomId, tuple[Piece, ...]]:
        found: dict[AtomId, list[Piece]] = defaultdict(list)
        for piece in self.pieces:
            for atom in {atom.id for term in piece.terms for atom in atoms(term)}:
                found[atom].append(piece)
        return {atom: tuple(pieces) for atom, pieces in found.items()}

    def total(self, counts: Counts) -> float:
        """Cost of the whole model."""
        return self.fixed + float(sum(piece.at(counts) for piece in self.pieces))

    def of_layer(self, layer: LayerId, sizes: Ints, counts: Counts) -> Floats:
        """(n,) cost of what depends on one layer, for each of its sizes, the others as in `counts`."""
        trial = {**counts, layer: sizes}
        return sum((piece.at(trial) for piece in self._by_layer.get(layer, ())), start=np.zeros(len(sizes)))


def parameter_pieces(graph: Graph, channels: ChannelGraph) -> list[Piece]:
    """Elements of every stored tensor, as `onnxmi.graph.cost` counts them."""
    return [Piece(float(count), terms) for count, _, terms in _stored(graph, channels)]


def byte_pieces(graph: Graph, channels: ChannelGraph, file_size: int) -> list[Piece]:
    """Bytes of every stored tensor, and of the rest of the file."""
    stored = [Piece(float(count * width), terms) for count, width, terms in _stored(graph, channels)]
    return [*stored, Piece(file_size - sum(piece.full for piece in stored), ())]


def _stored(graph: Graph, channels: ChannelGraph) -> Iterable[tuple[int, int, tuple[Term, ...]]]:
    """(elements, bytes an element, terms of its axes) of each stored tensor of numbers."""
    apart = {graph.nodes[node].inputs[operand]: axes for (node, operand), axes in channels.uses.items()}
    for name in graph.constants:
        dtype = graph.constant(name).dtype
        if dtype not in (np.dtype(np.int64), np.dtype(np.bool_)):
            yield prod(graph.constant_shape(name)), dtype.itemsize, channels.axes.get(name, apart.get(name, ()))


def mac_pieces(graph: Graph, channels: ChannelGraph, shapes: Shapes, samples: int) -> list[Piece]:
    """Multiply-accumulates of every product and convolution, for one sample of those that gave the shapes."""
    found = (piece for node in graph.nodes for piece in node_pieces(node, channels, shapes))
    return [Piece(piece.full / samples, piece.terms) for piece in found]


def node_pieces(node: Node, channels: ChannelGraph, shapes: Shapes, block: int = 1) -> list[Piece]:
    """Multiply-accumulates of one node, with what each part of them is proportional to."""
    return [
        Piece(float(work.macs), tuple(term for axis in work.axes for term in _terms(node, channels, axis)), block)
        for work in work_of(node, shapes)
    ]


def _terms(node: Node, channels: ChannelGraph, axis: Axis) -> tuple[Term, ...]:
    """The term of an axis; none where it is not known, and so never cut."""
    if axis.place >= 0:
        terms = channels.read(node.index, axis.place, node.inputs[axis.place])
    else:
        terms = channels.axes.get(node.outputs[RESULT - axis.place])
    if not terms:
        return ()
    term = terms[axis.axis]
    return (term,) if axis.part is None else (stretch(term, *axis.part),)


__all__ = ["CostModel", "Counts", "Piece", "byte_pieces", "mac_pieces", "node_pieces", "parameter_pieces", "size_under"]
