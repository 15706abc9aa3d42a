import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.axes.terms import Dim, Product, Sum, Term, atoms
from tests.support.terms import DIMS, INNER, OTHER, OUTER, places, terms


@st.composite
def plain_keeping(draw: st.DrawFn) -> Keeping:
    chosen = draw(st.sets(st.sampled_from(DIMS)))
    sets = {dim.id: sorted(draw(st.sets(st.integers(0, dim.size - 1)))) for dim in chosen}
    return Keeping({atom: Kept(np.array(units, dtype=int)) for atom, units in sets.items()})


@st.composite
def ragged_sets(draw: st.DrawFn, outer: Dim = OUTER, inner: Dim = INNER) -> Kept:
    count = draw(st.integers(0, inner.size))
    units = st.permutations(range(inner.size)).map(lambda order: sorted(order[:count]))
    sets = [draw(units) for _ in range(outer.size)]
    return Kept(np.array(sets, dtype=int).reshape(outer.size, count), outer.id)


@given(terms, plain_keeping())
def test_a_position_stays_where_all_its_atoms_stay(term: Term, keeping: Keeping) -> None:
    stays = [all(i in keeping[a].indices for a, i in place.items() if a in keeping) for place in places(term)]
    assert keeping.mask(term).tolist() == stays


@given(terms, plain_keeping())
def test_the_kept_size_is_the_number_of_kept_positions(term: Term, keeping: Keeping) -> None:
    assert keeping.size(term) == keeping.mask(term).sum()


@given(terms, plain_keeping())
def test_a_term_is_cut_when_one_of_its_atoms_is(term: Term, keeping: Keeping) -> None:
    assert keeping.cuts(term) == any(atom.id in keeping for atom in atoms(term))


@given(terms)
def test_an_empty_plan_keeps_everything(term: Term) -> None:
    assert Keeping().mask(term).all()
    assert Keeping().size(term) == term.size


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
    keeping = Keeping({INNER.id: kept, OUTER.id: Kept(np.array(sorted(outer)))})
    stays = [
        (OUTER.id not in place or place[OUTER.id] in outer)
        and (INNER.id not in place or place[INNER.id] in kept.indices[place[OUTER.id]])
        for place in places(term)
    ]
    assert keeping.mask(term).tolist() == stays
    assert keeping.size(term) == sum(stays)


@given(kept=ragged_sets(), rows=st.lists(st.integers(0, OUTER.size - 1), min_size=1, max_size=9))
def test_the_outer_index_may_come_from_another_axis(kept: Kept, rows: list[int]) -> None:
    """The second axis of a grouped convolution's weight: its first axis says which group a row belongs to."""
    mask = Keeping({INNER.id: kept}).mask(INNER, {OUTER.id: np.array(rows)})
    assert mask.shape == (len(rows), INNER.size)
    for row, outer in zip(mask, rows, strict=True):
        assert np.flatnonzero(row).tolist() == kept.indices[outer].tolist()


@given(
    kept=ragged_sets(),
    plain=st.sets(st.integers(0, OTHER.size - 1)),
    rows=st.lists(st.integers(0, OUTER.size - 1), min_size=1, max_size=5),
)
def test_a_ragged_and_a_plain_atom_on_one_axis(kept: Kept, plain: set[int], rows: list[int]) -> None:
    keeping = Keeping({OTHER.id: Kept(np.array(sorted(plain), dtype=int)), INNER.id: kept})
    mask = keeping.mask(Product((OTHER, INNER)), {OUTER.id: np.array(rows)})
    for row, outer in zip(mask, rows, strict=True):
        one = keeping.also(INNER.id, Kept(kept.indices[outer]))
        assert row.tolist() == one.mask(Product((OTHER, INNER))).tolist()


def test_the_count_of_a_ragged_set_is_per_outer_index() -> None:
    assert Kept(np.array([[0, 2], [1, 3], [0, 4]]), OUTER.id).count == 2
    assert Kept(np.array([0, 2, 4])).count == 3


def test_what_is_absent_stays_whole_and_one_more_atom_may_be_cut() -> None:
    alone = Keeping({OTHER.id: Kept(np.array([0, 6]))})
    both = alone.also(INNER.id, Kept(np.zeros((OUTER.size, 0), dtype=int), OUTER.id))
    assert (alone.emptied, both.emptied) == ((), (INNER.id,))
    assert (both.outer_atom(INNER.id), both.outer_atom(OTHER.id), both.outer_atom(99)) == (OUTER.id, None, None)
    assert both.shape((OTHER, INNER, OUTER)) == (2, 0, 3)
    assert both.positions(OTHER).tolist() == [0, 6]
    assert both.empties_any((OTHER, INNER))
    assert not both.empties_any((OTHER, OUTER, Sum(())))
    assert both.cuts_any((OUTER, OTHER))
    assert not both.only({INNER.id}).cuts_any((OUTER, OTHER))
