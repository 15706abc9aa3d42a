"""What stays of a model's atoms, and what follows from that for any term."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from onnxmi.axes.terms import AtomId, Axes, Dim, Indices, Sum, Term, atoms, coordinates
from onnxmi.typing import Bools


@dataclass(frozen=True, eq=False)
class Kept:
    """Which indices of one atom stay.

    Attributes
    ----------
    indices : (k,) or (outer, k) int64
        Sorted kept indices; two-dimensional where each index of the outer atom keeps its own set.
    outer_atom : AtomId or None
        The outer atom of per-group kept sets.
    """

    indices: Indices
    outer_atom: AtomId | None = None

    @property
    def count(self) -> int:
        """How many indices of the atom stay (for each index of the outer atom)."""
        return int(self.indices.shape[-1])


@dataclass(frozen=True, eq=False)
class Keeping(Mapping[AtomId, Kept]):
    """What stays of each cut atom; an atom that is absent stays whole.

    Attributes
    ----------
    kept : mapping of AtomId to Kept
        The indices that stay.
    """

    kept: Mapping[AtomId, Kept] = field(default_factory=dict)

    def __getitem__(self, atom: AtomId) -> Kept:
        """Return what stays of a cut atom."""
        return self.kept[atom]

    def __iter__(self) -> Iterator[AtomId]:
        """Iterate over the cut atoms."""
        return iter(self.kept)

    def __len__(self) -> int:
        """Return the number of cut atoms."""
        return len(self.kept)

    def also(self, atom: AtomId, kept: Kept) -> Keeping:
        """Return a copy with one more cut atom."""
        return Keeping({**self.kept, atom: kept})

    def only(self, chosen: Collection[AtomId]) -> Keeping:
        """Return what stays of some atoms, as if the others stayed whole."""
        return Keeping({atom: kept for atom, kept in self.kept.items() if atom in chosen})

    @property
    def emptied(self) -> tuple[AtomId, ...]:
        """The atoms of which nothing stays."""
        return tuple(atom for atom, kept in self.kept.items() if kept.count == 0)

    def outer_atom(self, atom: AtomId) -> AtomId | None:
        """Return the outer atom whose every index keeps its own set of an atom, if there is one."""
        return self.kept[atom].outer_atom if atom in self.kept else None

    # -- terms ----------------------------------------------------------------------------------------------------

    def cuts(self, term: Term) -> bool:
        """Whether any atom of a term loses an index."""
        return any(atom.id in self.kept for atom in atoms(term))

    def cuts_any(self, axes: Axes) -> bool:
        """Whether any axis of a tensor is cut."""
        return any(self.cuts(term) for term in axes)

    def empties_any(self, axes: Axes) -> bool:
        """Whether any axis of a tensor had entries and keeps none."""
        return any(term.size > 0 and self.size(term) == 0 for term in axes)

    def size(self, term: Term) -> int:
        """Return the number of positions of a term that stay (per-group sets keep the same number in each group)."""
        if isinstance(term, Dim):
            return self.kept[term.id].count if term.id in self.kept else term.size
        if isinstance(term, Sum):
            return sum(self.size(part) for part in term.parts)
        return prod(self.size(factor) for factor in term.factors)

    def shape(self, axes: Axes) -> tuple[int, ...]:
        """Return a tensor's shape after the cut."""
        return tuple(self.size(term) for term in axes)

    def positions(self, term: Term) -> Indices:
        """Return the flat positions of a term that stay, (k,), where no outer atom lies on another axis."""
        return np.flatnonzero(self.mask(term))

    def mask(self, term: Term, context: Mapping[AtomId, Indices] | None = None) -> Bools:
        """Which flat positions of a term stay.

        Parameters
        ----------
        term : Term
            The term of an axis.
        context : mapping of AtomId to (rows,) int64, optional
            Coordinates of outer atoms on another axis of the same tensor, for per-group kept sets whose outer atom is
            not here.

        Returns
        -------
        (size,) or (rows, size) bool
            Two-dimensional where an atom of the term depends on `context`.
        """
        mask: Bools = np.ones(term.size, dtype=bool)
        for atom in dict.fromkeys(atoms(term)):
            kept = self.kept.get(atom.id)
            if kept is not None:
                mask = mask & _atom_mask(term, atom, kept, context or {})
        return mask


def _atom_mask(term: Term, atom: Dim, kept: Kept, context: Mapping[AtomId, Indices]) -> Bools:
    place = coordinates(term, atom.id)
    if kept.outer_atom is None:
        stays = np.zeros(atom.size + 1, dtype=bool)  # the last entry stands for -1: positions without the atom stay
        stays[kept.indices] = True
        stays[-1] = True
        return stays[place]
    table = np.zeros((kept.indices.shape[0], atom.size + 1), dtype=bool)
    np.put_along_axis(table, kept.indices, values=True, axis=1)
    table[:, -1] = True
    outer = coordinates(term, kept.outer_atom)
    if (outer[place >= 0] >= 0).all():
        return table[outer, place]
    return table[context[kept.outer_atom][:, None], place[None, :]]
