"""PP-OCR's text detector: a map (N, 1, H, W) of where text is, on pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shipped.boxes import Boxes, Matches, match, parts
from shipped.family import Arrays, Family, Figures, Groups, Model, Request, first_sample
from shipped.lettering import Printer, as_input
from shipped.running import both

CALIBRATION = 48
SIZE = (320, 320)
FRESH = {(320, 320): 48, (256, 448): 16, (480, 480): 8}
ON = 0.3
LEAST_SIDE = 3  # pixels; smaller parts are dropped, as by the package's own code


def _pages(printer: Printer, count: int, height: int, width: int) -> Arrays:
    return {"x": np.stack([as_input(printer.page(height, width), width) for _ in range(count)])}


def calibrate(request: Request) -> Arrays:
    return _pages(Printer(request), CALIBRATION, *SIZE)


def fresh(request: Request) -> Groups:
    printer = Printer(request)
    return {f"{height}x{width}": _pages(printer, n, height, width) for (height, width), n in FRESH.items()}


def boxes_of(page: NDArray[np.float32]) -> Boxes:
    """Boxes of one (H, W) map, all of one class."""
    corners = parts(page > ON)
    sides = corners[:, 2:] - corners[:, :2]
    large = corners[(sides >= LEAST_SIDE).all(axis=1)]
    return Boxes(large, np.zeros(len(large), dtype=np.int64), np.ones(len(large)))


def judge(original: Model, pruned: Model, groups: Groups) -> Figures:
    total = Matches()
    for _, (reference,), (found,) in both(original, pruned, groups):
        for one, other in zip(reference, found, strict=True):
            total += match(boxes_of(one[0]), boxes_of(other[0]))
    return total.figures()


FAMILY = Family(calibrate, fresh, judge, first_sample, ("recall", "precision", "mean_iou"))
