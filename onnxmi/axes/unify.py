"""Unification: the mutable solver that merges dimension terms while the operators' rules are run.

Union-find over nodes; a node is an unbound atom or is bound to a product or a sum of other nodes. What cannot be
made equal by refinement is frozen with a reason: there is no error and no guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal, NewType

from onnxmi.axes.terms import AtomId, Dim, Product, Sum, Term

TermId = NewType("TermId", int)
"""A term while it is being solved: its place in the solver."""
Structure = tuple[Literal["product", "sum"], tuple[TermId, ...]]


class Solver:
    """Terms under construction, addressed by integer ids."""

    def __init__(self) -> None:
        self._parent: list[TermId] = []
        self._size: list[int] = []
        self._structure: list[Structure | None] = []
        self._marks: list[dict[str, str]] = []  # mark ("frozen", "renormalising") -> first reason
        self._resolved: dict[TermId, Term] = {}

    # -- construction ---------------------------------------------------------------------------------------------

    def dim(self, size: int) -> TermId:
        """Make a new atom."""
        node = TermId(len(self._parent))
        self._parent.append(node)
        self._size.append(size)
        self._structure.append(None)
        self._marks.append({})
        return node

    def product(self, factors: Sequence[TermId]) -> TermId:
        """Make the row-major flattening of terms; factors of size one vanish."""
        return self._composite(
            "product", [f for f in factors if self._size[f] != 1], prod(self.size(f) for f in factors)
        )

    def sum(self, parts: Sequence[TermId]) -> TermId:
        """Make the concatenation of terms; empty parts vanish."""
        return self._composite("sum", [p for p in parts if self._size[p] != 0], sum(self.size(p) for p in parts))

    def _composite(self, kind: Literal["product", "sum"], children: list[TermId], size: int) -> TermId:
        if len(children) == 1:
            return children[0]
        made = self.dim(size)
        if children and size:
            self._structure[made] = (kind, tuple(children))
        return made

    def size(self, term: int) -> int:
        """Return the number of positions of a term."""
        return self._size[term]

    def find(self, term: TermId) -> TermId:
        """Return the representative of a term."""
        while self._parent[term] != term:
            self._parent[term] = self._parent[self._parent[term]]
            term = self._parent[term]
        return term

    # -- marks ----------------------------------------------------------------------------------------------------

    def mark(self, term: TermId, mark: str, reason: str) -> None:
        """Note that every atom of the term is frozen or renormalizing; the first reason stays."""
        self._marks[self.find(term)].setdefault(mark, reason)

    def freeze(self, term: TermId, reason: str) -> None:
        """Forbid cutting any atom of the term."""
        self.mark(term, "frozen", reason)

    def settle_marks(self) -> None:
        """Hand every mark of a composite term down to its atoms."""
        for node in range(len(self._parent)):
            root = self.find(TermId(node))
            for mark, reason in self._marks[root].items():
                for atom in self._leaves(root):
                    self._marks[atom].setdefault(mark, reason)

    def marks(self, atom: AtomId) -> dict[str, str]:
        """Return the marks of an atom with their reasons."""
        return self._marks[self.find(TermId(atom))]

    def _leaves(self, term: TermId) -> list[TermId]:
        term = self.find(term)
        structure = self._structure[term]
        if structure is None:
            return [term]
        return [leaf for child in structure[1] for leaf in self._leaves(child)]

    # -- unification ----------------------------------------------------------------------------------------------

    def unify(self, a: TermId, b: TermId, reason: str = "its shapes cannot be aligned") -> None:
        """Make two terms equal, refining where needed; freeze both with `reason` where that is impossible."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        if self._size[a] != self._size[b]:
            self._give_up(a, b, reason)
        elif self._structure[a] is None or self._structure[b] is None:
            atom, term = (a, b) if self._structure[a] is None else (b, a)
            if atom in self._reachable(term):
                self._give_up(a, b, reason)
            else:
                self._join(atom, term)
        else:
            self._unify_composites(a, b, reason)

    def _unify_composites(self, a: TermId, b: TermId, reason: str) -> None:
        """Merge two bound terms: refine their pieces pairwise, then let one node stand for both."""
        pieces_a, pieces_b = self._pieces(a), self._pieces(b)
        if pieces_a is None or pieces_b is None or pieces_a[0] != pieces_b[0]:
            self._unify_sum_product(a, b, reason)
            return
        kind = pieces_a[0]
        pairs = self._refine(kind, list(pieces_a[1]), list(pieces_b[1]))
        if pairs is None:
            self._give_up(a, b, reason)
            return
        for x, y in pairs:
            self.unify(x, y, reason)
        a, b = self.find(a), self.find(b)
        if a != b and b not in self._reachable(a) and a not in self._reachable(b):
            self._join(a, b)

    def _refine(self, kind: str, left: list[TermId], right: list[TermId]) -> list[tuple[TermId, TermId]] | None:
        """Split pieces until both lists have the same sizes; None where the boundaries do not nest."""
        pairs: list[tuple[TermId, TermId]] = []
        left, right = list(reversed(left)), list(reversed(right))
        while left and right:
            x, y = left[-1], right[-1]
            if self._size[x] == self._size[y]:
                pairs.append((left.pop(), right.pop()))
                continue
            big, small = (left, right) if self._size[x] > self._size[y] else (right, left)
            split = self._split(kind, big[-1], self._size[small[-1]])
            if split is None:
                return None
            big.pop()
            big.extend(reversed(split))
        return pairs if not left and not right else None

    def _split(self, kind: str, term: TermId, first: int) -> list[TermId] | None:
        """Split off a leading piece of size `first`; binds an atom, opens a composite of the same kind."""
        term = self.find(term)
        size = self._size[term]
        structure = self._structure[term]
        if structure is not None:
            if structure[0] == kind:
                return list(structure[1])
            return self._split_product_as_sum(term, first) if kind == "sum" else None
        if kind == "product" and size % first:
            return None
        rest = size // first if kind == "product" else size - first
        pieces = [self.dim(first), self.dim(rest)]
        made = self.product(pieces) if kind == "product" else self.sum(pieces)
        self._join(term, made)
        return pieces

    def _split_product_as_sum(self, term: TermId, first: int) -> list[TermId] | None:
        """Distribute the leading factor of a product: Product(3, r) is Sum(r, Product(2, r)) at a multiple of r."""
        pieces = self._pieces(term)
        assert pieces is not None  # the caller opened a composite
        lead, rest = pieces[1][0], self.product(pieces[1][1:])
        inner = self._size[rest]
        if first % inner or self._structure[self.find(lead)] is not None:
            return None
        self.freeze(lead, "it is taken apart index by index")
        count, total = first // inner, self._size[lead]
        return [self._repeat(count, rest), self._repeat(total - count, rest)]

    def _repeat(self, count: int, term: TermId) -> TermId:
        if count == 1:
            return term
        lead = self.dim(count)
        self.freeze(lead, "it is taken apart index by index")
        return self.product([lead, term])

    def _unify_sum_product(self, a: TermId, b: TermId, reason: str) -> None:
        """A sum against a product: distribute the product's leading factor over the parts."""
        total, product = (a, b) if self._kind(a) == "sum" else (b, a)
        structure = self._structure[total]
        assert structure is not None
        pairs = self._refine("sum", list(structure[1]), [product])
        if pairs is None:
            self._give_up(a, b, reason)
            return
        for x, y in pairs:
            self.unify(x, y, reason)

    def _kind(self, term: TermId) -> str | None:
        structure = self._structure[self.find(term)]
        return None if structure is None else structure[0]

    def _pieces(self, term: TermId) -> Structure | None:
        """Return the structure of a term with nested composites of the same kind opened."""
        structure = self._structure[self.find(term)]
        if structure is None:
            return None
        kind, flat = structure[0], list[TermId]()
        for child in structure[1]:
            inner = self._pieces(child)
            flat.extend(inner[1] if inner is not None and inner[0] == kind else (child,))
        return kind, tuple(flat)

    def _reachable(self, term: TermId) -> set[TermId]:
        term = self.find(term)
        structure = self._structure[term]
        found = {term}
        for child in structure[1] if structure else ():
            found |= self._reachable(child)
        return found

    def _join(self, a: TermId, b: TermId) -> None:
        self._parent[a] = b
        for mark, reason in self._marks[a].items():
            self._marks[b].setdefault(mark, reason)

    def _give_up(self, a: TermId, b: TermId, reason: str) -> None:
        self.freeze(a, reason)
        self.freeze(b, reason)

    # -- reading --------------------------------------------------------------------------------------------------

    def resolve(self, term: TermId) -> Term:
        """Return the immutable form of a term (call when nothing more will be unified)."""
        root = self.find(term)
        if root not in self._resolved:
            self._resolved[root] = self._build(root)
        return self._resolved[root]

    def _build(self, root: TermId) -> Term:
        pieces = self._pieces(root)
        if pieces is None:
            return Dim(AtomId(root), self._size[root])
        children = tuple(self.resolve(child) for child in pieces[1])
        return Product(children) if pieces[0] == "product" else Sum(children)
