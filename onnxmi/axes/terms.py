"""Dimension terms: what an axis is made of, as immutable values.

A term is an atom of channels (`Dim`), a row-major flattening of terms (`Product`, outermost first) or a
concatenation of terms (`Sum`). The functions here answer, for any term, which flat positions belong to which
index of which atom; `axes/keeping` answers which positions remain when some indices of some atoms are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import NewType

import numpy as np

from onnxmi.typing import Ints

Indices = Ints
AtomId = NewType("AtomId", int)
"""The identity of an atom within one channel graph."""


@dataclass(frozen=True)
class Dim:
    """An atom: `size` channels that are kept or cut one by one."""

    id: AtomId
    size: int


@dataclass(frozen=True)
class Product:
    """Row-major flattening: position = index of the first factor * size of the rest + position in the rest."""

    factors: tuple[Term, ...]

    @property
    def size(self) -> int:
        """Number of positions."""
        return prod(factor.size for factor in self.factors)


@dataclass(frozen=True)
class Sum:
    """Concatenation of parts along one axis."""

    parts: tuple[Term, ...]

    @property
    def size(self) -> int:
        """Number of positions."""
        return sum(part.size for part in self.parts)


Term = Dim | Product | Sum
Axes = tuple[Term, ...]


def atoms(term: Term) -> Iterator[Dim]:
    """Yield the atoms of a term, outermost and first part first, repeats included."""
    if isinstance(term, Dim):
        yield term
        return
    for child in term.factors if isinstance(term, Product) else term.parts:
        yield from atoms(child)


def stretch(term: Term, start: int, stop: int) -> Term:
    """Return the part of a concatenation between two of its borders; the whole term where there is no such part."""
    parts, end = list[Term](), 0
    for part in term.parts if isinstance(term, Sum) else ():
        if start <= end and end + part.size <= stop:
            parts.append(part)
        end += part.size
    if sum(part.size for part in parts) != stop - start:
        return term
    return parts[0] if len(parts) == 1 else Sum(tuple(parts))


def coordinates(term: Term, atom: AtomId) -> Indices:
    """Index of `atom` at every flat position of the term.

    Returns
    -------
    (size,) int64
        -1 where the position does not depend on the atom.
    """
    if isinstance(term, Dim):
        return np.arange(term.size) if term.id == atom else np.full(term.size, -1)
    if isinstance(term, Sum):
        return np.concatenate([coordinates(part, atom) for part in term.parts])
    result = np.full(1, -1, dtype=np.int64)
    for factor in term.factors:
        inner = coordinates(factor, atom)
        result = np.maximum(result[:, None], inner[None, :]).reshape(-1)
    return result


def enclosing(term: Term, atom: AtomId) -> Iterator[Dim]:
    """Yield the atoms that stand before `atom` in a product, outermost first."""
    if isinstance(term, Sum):
        for part in term.parts:
            yield from enclosing(part, atom)
    elif isinstance(term, Product):
        before: list[Dim] = []
        for factor in term.factors:
            if any(inner.id == atom for inner in atoms(factor)):
                yield from before
                yield from enclosing(factor, atom)
            if isinstance(factor, Dim):
                before.append(factor)


def owns(axes: Axes, outer: AtomId, atom: AtomId) -> bool:
    """Whether every position of the atom in a tensor belongs to exactly one index of the outer atom."""
    for place, term in enumerate(axes):
        inner = coordinates(term, atom) >= 0
        if not inner.any():
            continue
        index = coordinates(term, outer)
        elsewhere = [t for i, t in enumerate(axes) if i != place and any(dim.id == outer for dim in atoms(t))]
        if (index < 0).all() and len(elsewhere) == 1:
            term, index = elsewhere[0], coordinates(elsewhere[0], outer)
        else:
            index = index[inner]
        if (index < 0).any() or repeats_in_product(term, outer):
            return False
    return True


def repeats_in_product(term: Term, atom: AtomId) -> bool:
    """Whether an atom stands twice in one product: it has no index of its own there."""
    if isinstance(term, Dim):
        return False
    if isinstance(term, Sum):
        return any(repeats_in_product(part, atom) for part in term.parts)
    holding = [factor for factor in term.factors if any(inner.id == atom for inner in atoms(factor))]
    return len(holding) > 1 or any(repeats_in_product(factor, atom) for factor in holding)
