"""YOLOv8n of nudenet: 18 classes on photographs; output (N, 22, places), x, y, w, h in pixels and then scores."""

from __future__ import annotations

import numpy as np

from shipped.boxes import Boxes, Matches, match, suppress
from shipped.family import Array, Arrays, Family, Figures, Groups, Model, Request, first_sample
from shipped.photos import crops
from shipped.running import both

SIDE = 320
CALIBRATION, FRESH, OTHER_SIZE = 160, 160, 32
LEAST_SCORE, MOST_OVERLAP = 0.2, 0.45  # of the package's own code
INPUT = "images"


def _pictures(rng: np.random.Generator, count: int, side: int) -> Arrays:
    pictures = crops(rng, count, side)
    return {INPUT: pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255}


def calibrate(request: Request) -> Arrays:
    return _pictures(request.rng(), CALIBRATION, SIDE)


def fresh(request: Request) -> Groups:
    rng = request.rng()
    return {"320": _pictures(rng, FRESH, SIDE), "256": _pictures(rng, OTHER_SIZE, 256)}


def detections(output: Array) -> Boxes:
    """Boxes of one picture, from (4 + classes, places)."""
    scores = output[4:].astype(np.float64)
    places = np.flatnonzero(scores.max(axis=0) >= LEAST_SCORE)
    x, y, w, h = output[:4, places].astype(np.float64)
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
    best = scores[:, places]
    return suppress(Boxes(corners, best.argmax(axis=0), best.max(axis=0)), MOST_OVERLAP)


def judge(original: Model, pruned: Model, groups: Groups) -> Figures:
    total = Matches()
    for _, (reference,), (found,) in both(original, pruned, groups):
        for one, other in zip(reference, found, strict=True):
            total += match(detections(one), detections(other))
    return total.figures()


FAMILY = Family(calibrate, fresh, judge, first_sample, ("recall", "precision", "mean_iou"))
