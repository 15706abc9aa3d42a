"""How far answers agree that are no boxes: active cells, decisions, and lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from shipped.family import Array

BLANK = 0


def f1(reference: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """F1 of the cells that are on; 1 where none is on in either."""
    both = int(np.count_nonzero(reference & found))
    on = int(np.count_nonzero(reference)) + int(np.count_nonzero(found))
    return 2 * both / on if on else 1.0


def greedy(scores: Array) -> list[tuple[int, ...]]:
    """CTC's best path of each line of (lines, steps, classes): repeats are one, and blanks are dropped."""
    lines = np.argmax(scores, axis=2)
    return [
        tuple(int(symbol) for place, symbol in enumerate(line) if symbol != BLANK and not _repeats(line, place))
        for line in lines
    ]


def _repeats(line: NDArray[np.int64], place: int) -> bool:
    return place > 0 and bool(line[place] == line[place - 1])


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Fewest insertions, deletions and substitutions that turn one into the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, symbol in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (symbol != wanted))
    return row[-1]


def error_rate(pairs: Iterable[tuple[Sequence[object], Sequence[object]]]) -> float:
    """Edits over symbols of the first of each pair."""
    edits, symbols = 0, 0
    for reference, found in pairs:
        edits, symbols = edits + edit_distance(reference, found), symbols + len(reference)
    return edits / symbols if symbols else float(edits > 0)


def same_top(reference: Array, found: Array) -> NDArray[np.bool_]:
    """(n,) whether the best class of (n, classes) is the same."""
    return np.asarray(np.argmax(reference, axis=1) == np.argmax(found, axis=1), dtype=np.bool_)
