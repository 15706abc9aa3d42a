"""Boxes: where they overlap, which of them stand for the same thing, and where a map has them.

A box is x0, y0, x1, y1, in pixels; boxes are (n, 4) float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """Boxes of one picture with their classes and scores, each (n,)."""

    corners: Floats
    classes: NDArray[np.int64]
    scores: Floats

    def take(self, chosen: NDArray[np.int64] | list[int]) -> Boxes:
        order = np.asarray(chosen, dtype=np.int64)
        return Boxes(self.corners[order], self.classes[order], self.scores[order])


@dataclass(frozen=True)
class Matches:
    """How many boxes there were, how many of them were found again, and the sum of these pairs' overlap."""

    reference: int = 0
    found: int = 0
    matched: int = 0
    overlap: float = 0.0

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.reference + other.reference,
            self.found + other.found,
            self.matched + other.matched,
            self.overlap + other.overlap,
        )

    def figures(self) -> dict[str, float]:
        return {
            "boxes": self.reference,
            "boxes_pruned": self.found,
            "recall": self.matched / self.reference if self.reference else 1.0,
            "precision": self.matched / self.found if self.found else float(not self.reference),
            "mean_iou": self.overlap / self.matched if self.matched else 0.0,
        }


def overlaps(one: Floats, other: Floats) -> Floats:
    """(n, m) intersection over union of each pair of boxes."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    together = area(one)[:, None] + area(other)[None, :] - shared
    return np.divide(shared, together, out=np.zeros_like(shared), where=together > 0)


def area(corners: Floats) -> Floats:
    return np.asarray(np.prod(np.clip(corners[:, 2:] - corners[:, :2], 0.0, None), axis=1), dtype=np.float64)


def suppress(boxes: Boxes, limit: float) -> Boxes:
    """Non-maximum suppression among all classes, as OpenCV's: the best first, without what overlaps it by more."""
    waiting = np.argsort(-boxes.scores, kind="stable")
    kept: list[int] = []
    while len(waiting):
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        shared = overlaps(boxes.corners[[best]], boxes.corners[waiting])[0]
        waiting = waiting[shared <= limit]
    return boxes.take(kept)


def match(reference: Boxes, found: Boxes, least: float = 0.5) -> Matches:
    """Pair boxes of the same class one to one, the largest overlap first."""
    shared = overlaps(reference.corners, found.corners)
    shared[reference.classes[:, None] != found.classes[None, :]] = 0.0
    matched, total = 0, 0.0
    while shared.size and shared.max() >= least:
        row, column = np.unravel_index(np.argmax(shared), shared.shape)
        matched, total = matched + 1, total + float(shared[row, column])
        shared[row, :], shared[:, column] = 0.0, 0.0
    return Matches(len(reference.scores), len(found.scores), matched, total)


def parts(mask: NDArray[np.bool_]) -> Floats:
    """(n, 4) the boxes around the connected parts of a map, where diagonal neighbours touch; corners are exclusive."""
    runs = [(row, *run) for row in np.flatnonzero(mask.any(axis=1)) for run in _runs(mask[row])]
    parents = list(range(len(runs)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    for one, other in _touching(runs):
        parents[root(other)] = root(one)
    around: dict[int, list[int]] = {}
    for number, (row, start, stop) in enumerate(runs):
        box = around.setdefault(root(number), [start, row, stop, row + 1])
        box[:] = min(box[0], start), min(box[1], row), max(box[2], stop), max(box[3], row + 1)
    return np.array(sorted(around.values()), dtype=np.float64).reshape(-1, 4)


def _runs(line: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _touching(runs: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Pairs of runs in neighbouring rows that share a column, or a corner."""
    rows: dict[int, list[int]] = {}
    for number, (row, _, _) in enumerate(runs):
        rows.setdefault(row, []).append(number)
    return [
        (above, below)
        for row, numbers in rows.items()
        for below in numbers
        for above in rows.get(row - 1, [])
        if runs[above][1] <= runs[below][2] and runs[below][1] <= runs[above][2]
    ]
