"""Test samples whose answer the result changed: what it was, what it is, and what the sample looks like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxmi.evaluation.evaluation_set import EvaluationSet
from onnxmi.evaluation.judgement import Judgement
from onnxmi.typing import Array

MOST = 12  # samples that are kept
WIDEST = 64  # pixels of a picture to each side


@dataclass(frozen=True, eq=False)
class ChangedAnswer:
    """A sample on which the result chooses another class.

    Attributes
    ----------
    sample : int
        Its number among the calibration samples, from 0.
    before, after : int
        The class that the original and the result choose.
    label : int or None
        The right one, where it is known.
    image : (H, W) or (H, W, 3) uint8, or None
        The sample, where an input is an image; at most 64 pixels to each side.
    caption : str
        What people know the sample by: its text, or the name of its file; "" where there is no such thing.
    """

    sample: int
    before: int
    after: int
    label: int | None = None
    image: Array | None = None
    caption: str = ""


def changed_answers(samples: EvaluationSet, judgement: Judgement) -> tuple[ChangedAnswer, ...]:
    """Return the first test samples whose class changed, where the first output chooses one class a sample."""
    reference, made = samples.first_output(samples.reference), samples.first_output(judgement.answers)
    kinds = {view.output: view.kind for view in samples.meaning.views}
    if reference is None or made is None or reference.ndim != 2 or kinds.get(samples.first or "") != "classes":
        return ()
    before, after = reference.argmax(axis=1), made.argmax(axis=1)
    return tuple(_changed(samples, before, after))


def _changed(samples: EvaluationSet, before: Array, after: Array) -> Iterator[ChangedAnswer]:
    for place in np.flatnonzero(before != after)[:MOST]:
        number = int(samples.samples[place])
        label = None if samples.labels is None else int(samples.labels[place])
        caption = samples.data.captions[number] if samples.data.captions else ""
        yield ChangedAnswer(number, int(before[place]), int(after[place]), label, _image(samples, number), caption)


def _image(samples: EvaluationSet, number: int) -> Array | None:
    """Return the first input that looks like an image, in gray or colors."""
    for array in samples.data.feed(np.array([number])).values():
        image = np.asarray(array)[:1].squeeze(axis=0) if np.ndim(array) == 4 and len(array) == 1 else None
        if image is not None and image.dtype.kind in "fu":
            channels_last = image if image.shape[-1] in (1, 3) else np.moveaxis(image, 0, -1)
            if channels_last.shape[-1] in (1, 3) and min(channels_last.shape[:2]) > 1:
                return _as_bytes(channels_last.astype(np.float64))
    return None


def _as_bytes(image: Array) -> Array:
    """Scale an image from its least to its largest value, and leave out pixels of a large one."""
    step = -(-max(image.shape[:2]) // WIDEST)
    image = image[::step, ::step]
    low, high = float(image.min()), float(image.max())
    scaled = np.round(255 * (image - low) / (high - low)) if high > low else np.zeros_like(image)
    return np.asarray(scaled.squeeze(axis=-1) if image.shape[-1] == 1 else scaled).astype(np.uint8)
