"""How a detector's outputs are laid out: rows of boxes and scores, boxes beside scores, or what NMS leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxmi.evaluation.divergence import probabilities
from onnxmi.outputs.view import Answers
from onnxmi.typing import Array, Floats, Ints

NEARLY_ALL = 0.98  # share of boxes whose second corner lies beyond the first where they are corners


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one sample.

    Attributes
    ----------
    corners : (boxes, 4) float64
        x and y of the first corner, then of the second, in the output's own units.
    scores : (boxes,) float64
        Probabilities.
    classes : (boxes,) int64
        Best class of each.
    """

    corners: Floats
    scores: Floats
    classes: Ints

    def take(self, chosen: Array) -> Boxes:
        """Return some of them."""
        return Boxes(self.corners[chosen], self.scores[chosen], self.classes[chosen])


@dataclass(frozen=True)
class Layout:
    """Where boxes, scores and classes are.

    Attributes
    ----------
    read : callable(mapping of output to array)
        Returns (boxes, 4) places, (boxes, classes) scores and (boxes,) classes or None, of one sample.
    centers : bool
        Whether places are center, width and height; else two corners.
    logits : bool
        Whether scores are the argument of a sigmoid.
    suppressed : bool
        Whether NMS is in the graph.
    """

    read: _Read
    centers: bool = False
    logits: bool = False
    suppressed: bool = False

    def boxes(self, arrays: Mapping[str, Array]) -> Boxes:
        """Return all boxes of one sample."""
        places, scores, classes = self.read(arrays)
        chances = probabilities("sigmoid", scores) if self.logits else scores
        best = chances.argmax(1) if classes is None else classes.astype(np.int64)
        top = chances.max(1) if len(chances) else np.zeros(0)
        return Boxes(_corners(places) if self.centers else places, top, best)


_Found = tuple[Floats, Floats, Array | None]
_Read = Callable[[Mapping[str, Array]], _Found]


def arrays_of(answers: Answers, outputs: Sequence[str], sample: int) -> dict[str, Array]:
    """Return one sample's outputs, without axes of one entry in front."""
    return {name: _plain(answers.values[name][sample]) for name in outputs if name in answers.values}


def find_layout(answers: Answers, outputs: Sequence[str]) -> Layout | None:
    """Find out how the outputs are laid out, from their shapes and values; None where they are no boxes."""
    samples = [arrays_of(answers, outputs, number) for number in range(answers.count)]
    for find in (_rows, _separate):
        layout = find(samples)
        if layout is not None:
            return layout
    return None


def _plain(array: Array) -> Array:
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array


# -- rows of one output -----------------------------------------------------------------------------------------------


def _rows(samples: Sequence[Mapping[str, Array]]) -> Layout | None:
    """RowIndices and scores in one array: (boxes, 4 + classes), (boxes, 5 + classes) with objectness, or after NMS."""
    name = next(iter(samples[0]), None)
    if name is None or len(samples[0]) != 1:
        return None
    arrays = [sample[name] for sample in samples]
    if any(array.ndim != 2 or array.dtype.kind != "f" for array in arrays):
        return None
    across = _column_axis([array.shape for array in arrays])
    rows = np.concatenate([np.moveaxis(array, across, 1) for array in arrays]).astype(np.float64)
    if rows.shape[1] < 5 or not len(rows):
        return None
    # Looked for first: six columns after suppression would pass for two classes before it.
    ended = _after_suppression(rows)
    if ended is not None:
        place, score, label = ended
        return _checked(
            lambda found: _cells(np.moveaxis(found[name], across, 1), place, score, label), samples, suppressed=True
        )
    # Layouts with boxes on the first axis (YOLOv5) have objectness; those with columns first (YOLOv8) have none.
    objectness = across == 1 and rows.shape[1] > 5
    return _checked(lambda found: _scored(np.moveaxis(found[name], across, 1), objectness=objectness), samples)


def _column_axis(shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the axis of columns: the other's size varies, or is larger."""
    sizes = np.array(shapes)
    varies = (sizes != sizes[0]).any(0)
    return int(varies[0]) if varies.any() else int(sizes[0, 1] < sizes[0, 0])


def _after_suppression(rows: Floats) -> tuple[int, int, int] | None:
    """Return where places, score and class begin in rows that NMS left: one class a row, as a whole number."""
    for width, place, score, label in ((6, 0, 4, 5), (7, 1, 6, 5)):
        if rows.shape[1] != width:
            continue
        classes, scores = rows[:, label], rows[:, score]
        if (classes == np.round(classes)).all() and classes.max() >= 1 and _are_chances(scores):
            return place, score, label
    return None


def _cells(rows: Array, place: int, score: int, label: int) -> _Found:
    wide = rows.astype(np.float64)
    return wide[:, place : place + 4], wide[:, score : score + 1], wide[:, label]


def _scored(rows: Array, *, objectness: bool) -> _Found:
    wide = rows.astype(np.float64)
    return wide[:, :4], wide[:, 4:5] * wide[:, 5:] if objectness else wide[:, 4:], None


# -- several outputs --------------------------------------------------------------------------------------------------


def _separate(samples: Sequence[Mapping[str, Array]]) -> Layout | None:
    """RowIndices in one output, scores in another, and after NMS classes in a third."""
    first = samples[0]
    place = next((n for n, a in first.items() if a.ndim == 2 and 4 in a.shape and a.dtype.kind == "f"), None)
    if place is None:
        return None
    across = 1 if first[place].shape[1] == 4 else 0
    others = [name for name in first if name != place and _goes_with(name, place, across, samples)]
    score = next((name for name in others if _may_score(first[name])), None)
    if score is None:
        return None
    label = next((name for name in others if name != score and first[name].ndim == 1), None)

    def read(found: Mapping[str, Array]) -> _Found:
        places = np.moveaxis(found[place], across, 1).astype(np.float64)
        scores = found[score].astype(np.float64)
        wide = scores[:, None] if scores.ndim == 1 else scores if len(scores) == len(places) else scores.T
        classes = None if label is None else found[label]
        if len(wide) != len(places) or (classes is not None and len(classes) != len(places)):
            return places[:0], wide[:0], None if classes is None else classes[:0]  # nobody knows which go together
        return places, wide, classes

    return _checked(read, samples, suppressed=label is not None)


def _goes_with(name: str, place: str, across: int, samples: Sequence[Mapping[str, Array]]) -> bool:
    """Whether an output has an entry for every box, in every sample: their number may vary."""
    return all(
        name in sample
        and place in sample
        and sample[place].ndim == 2
        and sample[place].shape[1 - across] in sample[name].shape
        for sample in samples
    )


def _may_score(array: Array) -> bool:
    whole = array.size > 0 and bool((array == np.round(array)).all()) and float(array.max(initial=0)) > 1
    return array.dtype.kind == "f" and array.ndim in (1, 2) and not whole


# -- what the values say ----------------------------------------------------------------------------------------------


def _checked(read: _Read, samples: Sequence[Mapping[str, Array]], *, suppressed: bool = False) -> Layout | None:
    """Tell corners from centers, and logits from probabilities; None where places are neither."""
    found = [read(sample) for sample in samples]
    places = np.concatenate([place for place, _, _ in found])
    scores = np.concatenate([score.reshape(-1) for _, score, _ in found])
    if not len(places) or not np.isfinite(places).all():
        return None
    # A few boxes may be degenerate, so nearly all are enough.
    corners = float((places[:, 2:] >= places[:, :2]).all(1).mean()) >= NEARLY_ALL
    sized = float((places[:, 2:] >= 0).all(1).mean()) >= NEARLY_ALL
    if not (corners or sized):
        return None
    return Layout(read, not corners, not _are_chances(scores), suppressed)


def _are_chances(scores: Floats) -> bool:
    return bool(((scores >= 0) & (scores <= 1 + 1e-3)).all())


def _corners(places: Floats) -> Floats:
    half = places[:, 2:] / 2
    return np.hstack([places[:, :2] - half, places[:, :2] + half])
