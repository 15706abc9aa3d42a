from collections.abc import Iterator
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmi.axes.terms import Dim, Kept, Product, Sum, Term, atoms, coordinates, is_cut, kept_mask, kept_size

DIMS = (Dim(1, 3), Dim(2, 5), Dim(3, 7), Dim(4, 2), Dim(5, 1))
OUTER, INNER, OTHER = DIMS[0], DIMS[1], DIMS[2]


def places(term: Term) -> Iterator[dict[int, int]]:
    """The index of every atom at every flat position, one position after the other: the definition."""
    if isinstance(term, Dim):
        yield from ({term.id: index} for index in range(term.size))
    elif isinstance(term, Sum):
        for part in term.parts:
            yield from places(part)
    else:
        yield from _product_places(term.factors)


def _product_places(factors: tuple[Term, ...]) -> Iterator[dict[int, int]]:
    if not factors:
        yield {}
        return
    for outer in places(factors[0]):
        for inner in _product_places(factors[1:]):
            yield outer | inner


def _untangled(term: Term) -> bool:
    """No atom stands twice in one product (inference never cuts such an atom)."""
    if isinstance(term, Dim):
        return True
    children = term.factors if isinstance(term, Product) else term.parts
    if isinstance(term, Product):
        held = [{atom.id for atom in atoms(child)} for child in children]
        if sum(map(len, held)) != len(set().union(*held)):
            return False
    return all(map(_untangled, children))


def _composites(children: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    lists = st.lists(children, min_size=2, max_size=3).map(tuple)
    return lists.map(Product) | lists.map(Sum)


terms = (
    st.recursive(st.sampled_from(DIMS), _composites, max_leaves=6).filter(_untangled).filter(lambda t: t.size < 3000)
)


@st.composite
def plain_keeping(draw: st.DrawFn) -> dict[int, Kept]:
    chosen = draw(st.sets(st.sampled_from(DIMS)))
    return {dim.id: Kept(np.array(sorted(draw(st.sets(st.integers(0, dim.size - 1)))), dtype=int)) for dim in chosen}


@st.composite
def ragged_sets(draw: st.DrawFn, outer: Dim = OUTER, inner: Dim = INNER) -> Kept:
    count = draw(st.integers(0, inner.size))
    units = st.permutations(range(inner.size)).map(lambda order: sorted(order[:count]))
    sets = [draw(units) for _ in range(outer.size)]
    return Kept(np.array(sets, dtype=int).reshape(outer.size, count), outer.id)


@given(terms)
def test_coordinates_are_the_place_of_the_atom_at_every_position(term: Term) -> None:
    known = list(places(term))
    assert len(known) == term.size
    for dim in DIMS:
        assert coordinates(term, dim.id).tolist() == [place.get(dim.id, -1) for place in known]


@given(terms, plain_keeping())
def test_a_position_stays_where_all_its_atoms_stay(term: Term, keeping: dict[int, Kept]) -> None:
    stays = [all(i in keeping[a].indices for a, i in place.items() if a in keeping) for place in places(term)]
    assert kept_mask(term, keeping).tolist() == stays


@given(terms, plain_keeping())
def test_the_kept_size_is_the_number_of_kept_positions(term: Term, keeping: dict[int, Kept]) -> None:
    assert kept_size(term, keeping) == kept_mask(term, keeping).sum()


@given(terms, plain_keeping())
def test_a_term_is_cut_when_one_of_its_atoms_is(term: Term, keeping: dict[int, Kept]) -> None:
    assert is_cut(term, keeping) == any(atom.id in keeping for atom in atoms(term))


@given(terms)
def test_an_empty_plan_keeps_everything(term: Term) -> None:
    assert kept_mask(term, {}).all()
    assert kept_size(term, {}) == term.size


# Terms where each position of INNER has its own index of OUTER, as inference demands of a ragged layer.
PAIR = Product((OUTER, INNER))
RAGGED_TERMS = {
    "the pair": PAIR,
    "something between": Product((OUTER, OTHER, INNER)),
    "something outside and inside": Product((OTHER, OUTER, INNER, Dim(6, 2))),
    "next to another part": Sum((OTHER, PAIR)),
    "twice": Sum((PAIR, OTHER, PAIR)),
    "inside a sum": Product((OUTER, Sum((INNER, OTHER)))),
    "the outer atom alone too": Sum((OUTER, PAIR)),
}


@pytest.mark.parametrize("name", RAGGED_TERMS)
@given(kept=ragged_sets(), outer=st.sets(st.integers(0, OUTER.size - 1), min_size=1))
def test_a_ragged_set_keeps_its_own_units_at_each_outer_index(name: str, kept: Kept, outer: set[int]) -> None:
    term = RAGGED_TERMS[name]
    keeping = {INNER.id: kept, OUTER.id: Kept(np.array(sorted(outer)))}
    stays = [
        (OUTER.id not in place or place[OUTER.id] in outer)
        and (INNER.id not in place or place[INNER.id] in kept.indices[place[OUTER.id]])
        for place in places(term)
    ]
    assert kept_mask(term, keeping).tolist() == stays
    assert kept_size(term, keeping) == sum(stays)


@given(kept=ragged_sets(), rows=st.lists(st.integers(0, OUTER.size - 1), min_size=1, max_size=9))
def test_the_outer_index_may_come_from_another_axis(kept: Kept, rows: list[int]) -> None:
    """The second axis of a grouped convolution's weight: its first axis says which group a row belongs to."""
    mask = kept_mask(INNER, {INNER.id: kept}, {OUTER.id: np.array(rows)})
    assert mask.shape == (len(rows), INNER.size)
    for row, outer in zip(mask, rows, strict=True):
        assert np.flatnonzero(row).tolist() == kept.indices[outer].tolist()


@given(
    kept=ragged_sets(),
    plain=st.sets(st.integers(0, OTHER.size - 1)),
    rows=st.lists(st.integers(0, OUTER.size - 1), min_size=1, max_size=5),
)
def test_a_ragged_and_a_plain_atom_on_one_axis(kept: Kept, plain: set[int], rows: list[int]) -> None:
    keeping = {OTHER.id: Kept(np.array(sorted(plain), dtype=int)), INNER.id: kept}
    mask = kept_mask(Product((OTHER, INNER)), keeping, {OUTER.id: np.array(rows)})
    for row, outer in zip(mask, rows, strict=True):
        one = keeping | {INNER.id: Kept(kept.indices[outer])}
        assert row.tolist() == kept_mask(Product((OTHER, INNER)), one).tolist()


def test_sizes() -> None:
    term = Product((Dim(1, 3), Sum((Dim(2, 5), Product((Dim(4, 2), Dim(3, 7)))))))
    assert term.size == 3 * (5 + 2 * 7)
    assert [atom.id for atom in atoms(term)] == [1, 2, 4, 3]
    assert prod(()) == Product(()).size == 1
    assert Sum(()).size == 0


def test_a_product_is_row_major() -> None:
    assert coordinates(Product((Dim(1, 3), Dim(2, 5))), 1).tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert coordinates(Product((Dim(1, 3), Dim(2, 5))), 2).tolist() == [0, 1, 2, 3, 4] * 3


def test_the_count_of_a_ragged_set_is_per_outer_index() -> None:
    assert Kept(np.array([[0, 2], [1, 3], [0, 4]]), OUTER.id).count == 2
    assert Kept(np.array([0, 2, 4])).count == 3
