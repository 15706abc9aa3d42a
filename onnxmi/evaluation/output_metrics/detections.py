"""Metrics of detections: boxes that are found again, against the original's own boxes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxmi.evaluation.output_metrics.layouts import Boxes, Layout, arrays_of, find_layout
from onnxmi.evaluation.output_metrics.output_metric import ComparedOutput, Contributions, OutputMetric, ratio
from onnxmi.outputs.view import Answers
from onnxmi.typing import Array, Floats

SCORES = (0.25, 0.1, 0.05, 0.01)  # least scores of a box, the first that finds some
FEWEST = 5  # boxes, below which a lower score is tried
MATCHED = 0.5  # overlap from which two boxes are one
SUPPRESSED = 0.45  # overlap from which the lower of two boxes of a class is left out
MOST = 1000  # boxes of a sample, by score, before any is left out


def overlaps(first: Floats, second: Floats) -> Floats:
    """Return intersection over union of (a, 4) and (b, 4) corners, (a, b); 0 where a box has no area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod((high - low).clip(min=0), axis=2)
    areas = [np.prod((corners[:, 2:] - corners[:, :2]).clip(min=0), axis=1) for corners in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0))


def suppress(boxes: Boxes) -> Boxes:
    """Leave out boxes that overlap a better one of their class."""
    chosen = boxes.take(np.argsort(-boxes.scores, kind="stable")[:MOST])
    same = chosen.classes[:, None] == chosen.classes
    # Boxes of two classes may lie on each other: two things can be at one place.
    covering = (overlaps(chosen.corners, chosen.corners) > SUPPRESSED) & same
    kept = np.ones(len(chosen.scores), dtype=np.bool_)
    for number in range(len(kept)):
        if kept[number]:
            # Best first: a box that is left out does not cover others.
            kept[number + 1 :] &= ~covering[number, number + 1 :]
    return chosen.take(kept)


def match(wanted: Boxes, found: Boxes) -> Floats:
    """Return the overlaps of the boxes that are found again: each, best score first, takes the best that is left."""
    same = overlaps(found.corners, wanted.corners) * (found.classes[:, None] == wanted.classes)
    matched = []
    for number in np.argsort(-found.scores, kind="stable"):
        best = int(same[number].argmax()) if same.shape[1] else 0
        if same.shape[1] and same[number, best] >= MATCHED:
            matched.append(float(same[number, best]))
            # Each of the original's boxes is found once.
            same[:, best] = 0.0
    return np.array(matched)


def least_score(layout: Layout, original: Answers, outputs: tuple[str, ...]) -> float | None:
    """Return the score from which the original finds boxes; None where it finds none."""
    scores = np.concatenate(
        [layout.boxes(arrays_of(original, outputs, number)).scores for number in range(original.count)]
    )
    return next((least for least in SCORES if int((scores >= least).sum()) >= FEWEST), None)


def _boxes(layout: Layout, arrays: dict[str, Array], least: float) -> Boxes:
    found = layout.boxes(arrays)
    above = found.take((found.scores >= least) & np.isfinite(found.corners).all(1))
    return above if layout.suppressed else suppress(above)


def _pairs(subject: ComparedOutput, original: Answers, cut: Answers) -> list[tuple[int, int, Floats]]:
    """Return, for each sample, the original's boxes, the cut model's, and the overlaps of those that match."""
    layout = find_layout(original, subject.outputs)
    least = None if layout is None else least_score(layout, original, subject.outputs)
    assert layout is not None
    assert least is not None
    pairs = []
    for number in range(original.count):
        wanted, found = (_boxes(layout, arrays_of(a, subject.outputs, number), least) for a in (original, cut))
        pairs.append((len(wanted.scores), len(found.scores), match(wanted, found)))
    return pairs


def _counted(parts: Callable[[int, int, Floats], tuple[float, float]]) -> Callable[..., Contributions]:
    """Return a measure of hits and trials, from the original's boxes, the cut model's, and the overlaps."""

    def measure(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
        pairs = _pairs(subject, original, cut)
        now = np.array([parts(*pair) for pair in pairs], dtype=np.float64)
        was = np.array([parts(wanted, wanted, np.ones(wanted)) for wanted, _, _ in pairs], dtype=np.float64)
        # lost boxes and new ones: without labels nobody knows which are right
        return Contributions(was, now, sum(wanted + found - 2 * len(same) for wanted, found, same in pairs))

    return measure


BOX_F1 = OutputMetric("box-f1", _counted(lambda wanted, found, same: (2 * len(same), wanted + found)), ratio)
BOX_RECALL = OutputMetric("box-recall", _counted(lambda wanted, _found, same: (len(same), wanted)), ratio)
BOX_PRECISION = OutputMetric("box-precision", _counted(lambda _wanted, found, same: (len(same), found)), ratio)
BOX_IOU = OutputMetric("box-iou", _counted(lambda _wanted, _found, same: (same.sum(), len(same))), ratio)


def metrics_of_detections(
    _subject: ComparedOutput, _original: Answers, _labels: Array | None
) -> tuple[OutputMetric, ...]:
    """Return the metrics of boxes."""
    return BOX_F1, BOX_RECALL, BOX_PRECISION, BOX_IOU


def finds_boxes(original: Answers, outputs: tuple[str, ...]) -> bool:
    """Whether the original's outputs are boxes, and there are some."""
    layout = find_layout(original, outputs)
    return layout is not None and least_score(layout, original, outputs) is not None
