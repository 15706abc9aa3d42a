from math import prod

from hypothesis import given

from onnxmi.axes.terms import Dim, Product, Sum, Term, atoms, coordinates
from tests.support.terms import DIMS, places, terms


@given(terms)
def test_coordinates_are_the_place_of_the_atom_at_every_position(term: Term) -> None:
    known = list(places(term))
    assert len(known) == term.size
    for dim in DIMS:
        assert coordinates(term, dim.id).tolist() == [place.get(dim.id, -1) for place in known]


def test_sizes() -> None:
    term = Product((Dim(1, 3), Sum((Dim(2, 5), Product((Dim(4, 2), Dim(3, 7)))))))
    assert term.size == 3 * (5 + 2 * 7)
    assert [atom.id for atom in atoms(term)] == [1, 2, 4, 3]
    assert prod(()) == Product(()).size == 1
    assert Sum(()).size == 0


def test_a_product_is_row_major() -> None:
    assert coordinates(Product((Dim(1, 3), Dim(2, 5))), 1).tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert coordinates(Product((Dim(1, 3), Dim(2, 5))), 2).tolist() == [0, 1, 2, 3, 4] * 3
