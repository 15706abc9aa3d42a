"""The solver: refinements, what is frozen, and that the outcome does not depend on the order of the unifications."""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.axes.terms import Dim, Product, Sum, Term, atoms
from onnxmi.axes.unify import Solver

randoms = st.randoms(use_true_random=False)


def frozen(solver: Solver, term: int) -> list[str | None]:
    """The reason why each atom of a term is frozen, or None."""
    return [solver.marks(atom.id).get("frozen") for atom in atoms(solver.resolve(term))]


def canonical(solver: Solver, terms: Sequence[int]) -> list[str]:
    """The terms with their atoms numbered by first appearance."""
    names: dict[int, int] = {}

    def spell(term: Term) -> str:
        if isinstance(term, Dim):
            return f"{names.setdefault(term.id, len(names))}:{term.size}"
        if isinstance(term, Product):
            return "(" + " ".join(map(spell, term.factors)) + ")"
        return "[" + " ".join(map(spell, term.parts)) + "]"

    return [spell(solver.resolve(term)) for term in terms]


# -- single refinements --


def test_atoms_of_one_size_merge() -> None:
    solver = Solver()
    a, b = solver.dim(7), solver.dim(7)
    solver.unify(a, b)
    assert solver.resolve(a) == solver.resolve(b)
    assert frozen(solver, a) == [None]


def test_an_atom_is_bound_to_a_term() -> None:
    solver = Solver()
    a, heads = solver.dim(15), solver.product([solver.dim(3), solver.dim(5)])
    solver.unify(a, heads)
    assert canonical(solver, [a, heads]) == ["(0:3 1:5)", "(0:3 1:5)"]


def test_products_are_refined_to_common_boundaries() -> None:
    solver = Solver()
    a = solver.product([solver.dim(3), solver.dim(35)])
    b = solver.product([solver.dim(15), solver.dim(7)])
    solver.unify(a, b)
    assert canonical(solver, [a, b]) == ["(0:3 1:5 2:7)"] * 2
    assert frozen(solver, a) == [None] * 3


def test_sums_are_refined_to_common_offsets() -> None:
    solver = Solver()
    a = solver.sum([solver.dim(3), solver.dim(12)])
    b = solver.sum([solver.dim(8), solver.dim(7)])
    solver.unify(a, b)
    assert canonical(solver, [a, b]) == ["[0:3 1:5 2:7]"] * 2


def test_misaligned_products_freeze_with_the_reason() -> None:
    solver = Solver()
    a = solver.product([solver.dim(3), solver.dim(5)])
    b = solver.product([solver.dim(5), solver.dim(3)])
    solver.unify(a, b, "Reshape r cannot align its shapes")
    solver.settle_marks()
    assert frozen(solver, a) + frozen(solver, b) == ["Reshape r cannot align its shapes"] * 4


def test_different_sizes_freeze_with_the_reason() -> None:
    solver = Solver()
    a, b = solver.dim(5), solver.product([solver.dim(3), solver.dim(7)])
    solver.unify(a, b, "no way")
    solver.settle_marks()
    assert frozen(solver, a) + frozen(solver, b) == ["no way"] * 3


def test_the_first_reason_stays() -> None:
    solver = Solver()
    a = solver.dim(5)
    solver.freeze(a, "first")
    solver.freeze(a, "second")
    assert frozen(solver, a) == ["first"]


def test_a_sum_of_equals_takes_a_product_apart() -> None:
    """A fused QKV, split in three on one side and reshaped to (3, width) on the other."""
    solver = Solver()
    q, k, v = (solver.dim(7) for _ in range(3))
    three, width = solver.dim(3), solver.dim(7)
    solver.unify(solver.sum([q, k, v]), solver.product([three, width]), "misfit")
    solver.settle_marks()
    assert len({solver.resolve(t) for t in (q, k, v, width)}) == 1
    assert frozen(solver, width) == [None]
    assert frozen(solver, three) == ["it is taken apart index by index"]


def test_a_part_may_span_several_indices() -> None:
    solver = Solver()
    big, small = solver.dim(14), solver.dim(7)
    three, width = solver.dim(3), solver.dim(7)
    solver.unify(solver.sum([big, small]), solver.product([three, width]), "misfit")
    solver.settle_marks()
    assert solver.resolve(small) == solver.resolve(width)
    assert canonical(solver, [width, big]) == ["0:7", "(1:2 0:7)"]
    assert frozen(solver, width) == [None]
    assert frozen(solver, big)[0] == "it is taken apart index by index"


def test_a_sum_that_does_not_fit_a_product_freezes_both() -> None:
    solver = Solver()
    parts = [solver.dim(5), solver.dim(16)]
    factors = [solver.dim(3), solver.dim(7)]
    solver.unify(solver.sum(parts), solver.product(factors), "misfit")
    solver.settle_marks()
    assert [frozen(solver, t) for t in (*parts, *factors)] == [["misfit"]] * 4


def test_factors_of_one_and_empty_parts_vanish() -> None:
    solver = Solver()
    a = solver.dim(7)
    assert solver.product([solver.dim(1), a, solver.dim(1)]) == a
    assert solver.sum([solver.dim(0), a]) == a
    assert solver.size(solver.product([solver.dim(1)] * 2)) == 1


def test_marks_of_a_composite_settle_to_its_atoms() -> None:
    solver = Solver()
    inner = [solver.dim(3), solver.dim(5)]
    whole = solver.sum([solver.product(inner), solver.dim(7)])
    solver.freeze(whole, "output")
    solver.mark(inner[1], "renormalising", "norm")
    solver.settle_marks()
    assert frozen(solver, whole) == ["output"] * 3
    assert solver.marks(inner[1]) == {"renormalising": "norm", "frozen": "output"}


def test_a_frozen_atom_passes_its_mark_to_what_it_is_bound_to_later() -> None:
    solver = Solver()
    a, pair = solver.dim(15), solver.product([solver.dim(3), solver.dim(5)])
    solver.freeze(a, "input")
    solver.unify(a, pair)
    solver.settle_marks()
    assert frozen(solver, pair) == ["input"] * 2


# -- loops --


@pytest.mark.parametrize(("g", "c"), [(3, 5), (3, 9), (2, 8), (4, 6), (5, 5)])
def test_a_channel_shuffle_onto_itself_ends(g: int, c: int) -> None:
    """x + shuffle(x): Product(g, c) is Product(c, g). Such atoms are frozen, or tangled, but never looped over."""
    solver = Solver()
    group, channel = solver.dim(g), solver.dim(c)
    solver.unify(solver.product([group, channel]), solver.product([channel, group]), "loop")
    solver.settle_marks()
    for term in (group, channel):
        assert all(frozen(solver, term)) or solver.resolve(group) == solver.resolve(channel) or c % g == 0
        assert prod(atom.size for atom in atoms(solver.resolve(term))) == solver.size(term)


def test_an_atom_is_not_bound_to_a_term_that_contains_it() -> None:
    solver = Solver()
    a = solver.dim(7)
    one = solver.sum([a, solver.dim(0)])
    whole = solver.product([a, solver.dim(3)])
    solver.unify(a, one)
    solver.unify(whole, solver.product([solver.dim(3), a]), "loop")
    assert solver.resolve(whole).size == 21


# -- properties --

Grouping = list[list[int]]


def _grouping(rng: random.Random, pieces: list[int]) -> Grouping:
    groups: Grouping = [[pieces[0]]]
    for piece in pieces[1:]:
        if rng.random() < 0.5:
            groups.append([piece])
        else:
            groups[-1].append(piece)
    return groups


def _build(solver: Solver, kind: str, grouping: Grouping) -> int:
    total: Callable[[list[int]], int] = prod if kind == "product" else sum
    dims = [solver.dim(total(group)) for group in grouping]
    return solver.product(dims) if kind == "product" else solver.sum(dims)


def _outcome(kind: str, groupings: list[Grouping], pairs: list[tuple[int, int]]) -> tuple[list[str], list[bool]]:
    solver = Solver()
    terms = [_build(solver, kind, grouping) for grouping in groupings]
    for a, b in pairs:
        solver.unify(terms[a], terms[b], "misfit")
    solver.settle_marks()
    return canonical(solver, terms), [all(frozen(solver, term)) for term in terms]


@pytest.mark.parametrize("kind", ["product", "sum"])
@given(rng=randoms)
def test_the_order_of_unifications_does_not_matter(kind: str, rng: random.Random) -> None:
    pieces = [rng.choice([3, 5, 7, 9]) for _ in range(rng.randint(2, 5))]
    groupings = [_grouping(rng, pieces) for _ in range(rng.randint(2, 5))]
    pairs = [*pairwise(range(len(groupings)))]
    known = _outcome(kind, groupings, pairs)
    assert len(set(known[0])) == 1, "groupings of the same pieces can always be refined"
    assert not any(known[1])
    shuffled = [pair if rng.random() < 0.5 else pair[::-1] for pair in pairs]
    rng.shuffle(shuffled)
    assert _outcome(kind, groupings, shuffled) == known
    assert _outcome(kind, groupings, shuffled + shuffled) == known, "a second time changes nothing"


@given(rng=randoms)
def test_what_freezes_does_not_depend_on_the_order(rng: random.Random) -> None:
    """Groupings of two orders of the same factors: some align, some cannot; all hang together."""
    pieces = [3, 5, 7]
    groupings = [_grouping(rng, rng.sample(pieces, 3)) for _ in range(rng.randint(2, 5))]
    pairs = [*pairwise(range(len(groupings)))]
    known = _outcome("product", groupings, pairs)[1]
    for _ in range(3):
        order = [pair if rng.random() < 0.5 else pair[::-1] for pair in rng.sample(pairs, len(pairs))]
        assert _outcome("product", groupings, order)[1] == known


class Forest:
    """Random terms of one size over a common pool of atoms."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.solver, self.pool = rng, Solver(), dict[int, list[int]]()

    def tree(self, size: int, depth: int = 3) -> int:
        rng, solver = self.rng, self.solver
        divisors = [d for d in range(2, size) if size % d == 0]
        form = rng.choice(["atom", "product", "product", "sum"]) if depth else "atom"
        if form == "product" and divisors:
            first = rng.choice(divisors)
            return solver.product([self.tree(first, depth - 1), self.tree(size // first, depth - 1)])
        if form == "sum" and size > 3:
            first = rng.choice([size // 2, size // 3, rng.randint(1, size - 1)])
            return solver.sum([self.tree(first, depth - 1), self.tree(size - first, depth - 1)])
        known = self.pool.setdefault(size, [])
        if not known or rng.random() < 0.7:
            known.append(solver.dim(size))
        return rng.choice(known)


def _self_product(term: Term) -> set[int]:
    """Atoms that stand twice in one product: inference leaves them alone."""
    if isinstance(term, Dim):
        return set()
    children = term.factors if isinstance(term, Product) else term.parts
    found = set().union(*map(_self_product, children))
    if isinstance(term, Product):
        held = [{atom.id for atom in atoms(child)} for child in children]
        found |= {atom for ids in held for atom in ids if sum(atom in other for other in held) > 1}
    return found


@settings(max_examples=300)
@given(rng=randoms)
def test_unified_terms_lose_the_same_positions_under_every_plan(rng: random.Random) -> None:
    """What unification means: whatever is cut of atoms that may be cut, both terms keep the same flat positions."""
    forest = Forest(rng)
    solver, size = forest.solver, rng.choice([12, 15, 18, 27, 30, 36, 45])
    terms = [forest.tree(size) for _ in range(rng.randint(2, 4))]
    for a, b in pairwise(terms):
        solver.unify(a, b, "misfit")
    solver.settle_marks()
    resolved = [solver.resolve(term) for term in terms]
    assert {term.size for term in resolved} == {size}
    tangled = set().union(*map(_self_product, resolved))
    keeping = Keeping()
    for atom in {atom for term in resolved for atom in atoms(term)}:
        if atom.id not in tangled and "frozen" not in solver.marks(atom.id) and atom.size > 1:
            units = sorted(rng.sample(range(atom.size), rng.randint(1, atom.size)))
            keeping = keeping.also(atom.id, Kept(np.array(units)))
    masks = [keeping.mask(term).tolist() for term in resolved]
    assert all(mask == masks[0] for mask in masks), resolved


def test_that_property_is_not_empty() -> None:
    """Most random forests leave something to cut."""
    free = 0
    for seed in range(100):
        forest = Forest(random.Random(seed))
        a, b = forest.tree(45), forest.tree(45)
        forest.solver.unify(a, b)
        forest.solver.settle_marks()
        free += any(reason is None for reason in frozen(forest.solver, a))
    assert free > 50


def test_a_resolved_sum_is_flat() -> None:
    solver = Solver()
    inner = solver.sum([solver.dim(3), solver.dim(5)])
    assert solver.resolve(solver.sum([inner, solver.dim(7)])) == Sum(tuple(map(solver.resolve, (0, 1, 3))))
