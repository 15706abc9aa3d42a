"""How atoms lie inside one another in a term."""

from __future__ import annotations

from collections.abc import Iterator

from onnxmi.dims.channel_graph import Axes
from onnxmi.dims.term import Dim, Product, Sum, Term, atoms, coordinates


def enclosing(term: Term, atom: int) -> Iterator[Dim]:
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


def owns(axes: Axes, outer: int, atom: int) -> bool:
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


def repeats_in_product(term: Term, atom: int) -> bool:
    """Whether an atom stands twice in one product: it has no index of its own there."""
    if isinstance(term, Dim):
        return False
    if isinstance(term, Sum):
        return any(repeats_in_product(part, atom) for part in term.parts)
    holding = [factor for factor in term.factors if any(inner.id == atom for inner in atoms(factor))]
    return len(holding) > 1 or any(repeats_in_product(factor, atom) for factor in holding)
