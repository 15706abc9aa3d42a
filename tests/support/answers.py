"""Answers of every kind of output, to take metrics of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import softmax

from onnxmi.evaluation.output_metrics import (
    OUTPUT_METRICS,
    ComparedOutput,
    measure_metric,
    metrics_for,
)
from onnxmi.outputs.view import Answers, View

VIEW = View("y", "y", "y", "classes", "softmax", (1,), 0)
RNG = np.random.default_rng(0)


def of(kind, array, link="identity", axes=(1,)):
    """An output as a subject, and its answers."""
    view = replace(VIEW, kind=kind, link=link, axes=axes)
    return ComparedOutput("y", kind, (view,)), answers(array)


def answers(samples):
    return Answers(len(samples), {"y": tuple(np.asarray(sample, dtype=np.float32) for sample in samples)})


def read(name, subject, original, cut, labels=None):
    return measure_metric(OUTPUT_METRICS[name], subject, original, cut, labels)


def noisy(array, size=1.0, seed=1):
    return array + size * np.random.default_rng(seed).normal(size=np.shape(array)).astype(np.float32)


def names(subject, original, labels=None):
    return [meter.name for meter in metrics_for(subject, original, labels)]


# -- a case of every kind ----------------------------------------------------------------------------------------------

LOGITS = RNG.normal(size=(211, 11)).astype(np.float32) * 3
CELLS = RNG.normal(size=(53, 7)).astype(np.float32) * 3
SCORE = RNG.normal(size=(211, 1)).astype(np.float32)
RARE = np.stack([5 + RNG.normal(size=211), np.zeros(211)], 1).astype(np.float32)
VALUES = RNG.normal(size=(97, 5)).astype(np.float32) * [1, 10, 100, 0.1, 3] + [0, 100, 200, 300, 400]
MAPS = RNG.normal(size=(13, 1, 17, 19)).astype(np.float32) * 4
SEGMENTS = RNG.normal(size=(13, 3, 17, 19)).astype(np.float32) * 4
FRAMES = RNG.normal(size=(31, 23, 41)).astype(np.float32) + 2 * (np.arange(41) == 0)
TAGS = RNG.normal(size=(31, 23, 5)).astype(np.float32)
LABELS = RNG.integers(0, 11, 211)


def scene(count=29, classes=3, seed=0):
    """Outputs of a YOLO detector: (4 + classes, places), with a few boxes well apart on a grid."""
    generator = np.random.default_rng(seed)
    found = np.zeros((count, 4 + classes, 67), np.float32)
    for sample in found:
        where = generator.permutation(67)
        for number, place in enumerate(where):
            sample[:4, place] = 100 * (number % 8) + 40, 100 * (number // 8) + 40, 30 + generator.random(2) @ [9, 5], 35
            if number < 5:
                sample[4 + generator.integers(classes), place] = 0.4 + 0.5 * generator.random()
    return found


CASES = {
    "classes": of("classes", LOGITS, "softmax"),
    "one score": of("classes", SCORE, "sigmoid"),
    "rare class": of("classes", RARE, "softmax"),
    "decisions": of("classes", CELLS, "sigmoid"),
    "probabilities": of("classes", softmax(LOGITS, 1)),
    "values": of("values", VALUES),
    "embedding": of("embedding", VALUES),
    "signal": of("signal", MAPS[:, 0, 0], axes=()),
    "state": of("state", VALUES, axes=()),
    "map": of("map", MAPS, "sigmoid"),
    "segmentation": of("map", SEGMENTS, "softmax"),
    "map of numbers": of("map", MAPS, axes=()),
    "text": of("sequence", FRAMES, "softmax", (2,)),
    "tags": of("sequence", TAGS, "softmax", (2,)),
}
CASES["detections"] = (
    ComparedOutput("y", "detections", (replace(VIEW, kind="detections", axes=()),), ("y",)),
    answers(scene()),
)
