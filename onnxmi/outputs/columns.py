"""Which axes of a tensor hold its columns, by the weights that made it and, at last, by its shape."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from onnxmi.axes.terms import Term, atoms
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.model import Graph

Axes = tuple[int, ...]
_MATRIX = 2  # axes from which on a stored tensor is a matrix; with fewer it is a vector
_IMAGE = 4  # axes from which on columns come right after samples, unless the graph says otherwise
_VECTORS = -1  # where atoms that only stored vectors carry stand: before every node


@dataclass(frozen=True, eq=False)
class ColumnFinder:
    """Knows which atoms of the channel graph are output channels of weights.

    Attributes
    ----------
    channels : ChannelGraph
        The model's axes.
    makers : mapping of int to int
        Atom -> the last node whose weights make its channels; -1 for an atom that only a stored vector carries.
    """

    channels: ChannelGraph
    makers: Mapping[int, int]

    @staticmethod
    def of(graph: Graph, channels: ChannelGraph) -> ColumnFinder:
        """Read off a channel graph what stored matrices make."""
        makers: dict[int, int] = {}
        for node in graph.nodes:
            for operand, name in enumerate(node.inputs):
                terms = channels.read(node.index, operand, name) if name in graph.folded else None
                if terms is not None and len(terms) == 1:
                    makers.update({atom: _VECTORS for atom in _atoms(terms[0]) if atom not in makers})
        for contraction in channels.contractions:
            node = graph.nodes[contraction.node]
            consumed = _atoms(contraction.term)
            for operand, name in enumerate(node.inputs):
                terms = channels.read(node.index, operand, name) if name in graph.folded else None
                if terms is not None and len(terms) >= _MATRIX:
                    made = {atom for term in terms for atom in _atoms(term)} - consumed
                    makers.update({atom: max(node.index, makers.get(atom, _VECTORS)) for atom in made})
        return ColumnFinder(channels, makers)

    def __call__(self, tensor: str) -> Axes:
        """Return the axes whose atoms are all made by weights: of several, those that the last weights made."""
        found: dict[int, int] = {}
        for axis, term in enumerate(self.channels.axes.get(tensor, ())):
            own = _atoms(term)
            if own and all(atom in self.makers for atom in own):
                found[axis] = max(self.makers[atom] for atom in own)
        last = max(found.values(), default=_VECTORS)
        return tuple(axis for axis, node in found.items() if node == last)

    def mixed(self, tensor: str) -> Axes:
        """Return the axes that hold channels of weights together with something else, such as places."""
        terms = self.channels.axes.get(tensor, ())
        shares = [[atom in self.makers for atom in _atoms(term)] for term in terms]
        return tuple(axis for axis, made in enumerate(shares) if any(made) and not all(made))


def _atoms(term: Term) -> set[int]:
    """Atoms of an axis; those of one entry only where there are no others."""
    return {atom.id for atom in atoms(term) if atom.size > 1} or {atom.id for atom in atoms(term)}


def axes_by_shape(rank: int, taken: Collection[int]) -> Axes:
    """Guess the axis of columns: the second of an image's, else the last; none where it is taken by something else."""
    axis = 1 if rank >= _IMAGE else rank - 1
    return (axis,) if rank > 1 and axis not in taken else ()
