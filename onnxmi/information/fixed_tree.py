"""Adding up in a fixed tree: sums of rounded numbers depend on the order, so the number of terms fixes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Term = TypeVar("Term")


def add_in_tree(terms: Iterable[Term], add: Callable[[Term, Term], Term]) -> Term:
    """Add up terms that come one after the other: neighbors first, then neighboring pairs, and so on.

    Of n terms, at most ``1 + log2(n)`` sums are held. Rounding errors grow with log2(n), not with n.

    Raises
    ------
    ValueError
        If there is none.
    """
    sums: list[tuple[int, Term]] = []  # of 2**height terms each, the largest first
    for term in terms:
        height = 0
        while sums and sums[-1][0] == height:
            term = add(sums.pop()[1], term)
            height += 1
        sums.append((height, term))
    if not sums:
        raise ValueError("there is nothing to add up")
    total = sums.pop()[1]
    while sums:  # what is left over is added to the larger sum before it
        total = add(sums.pop()[1], total)
    return total
