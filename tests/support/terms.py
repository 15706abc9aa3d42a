"""Random dimension terms, and where each of their positions lies by definition."""

from collections.abc import Iterator

from hypothesis import strategies as st

from onnxmi.axes.terms import Dim, Product, Sum, Term, atoms

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
