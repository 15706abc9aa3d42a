"""Metrics of sequences: what greedy decoding reads, or the tag of each position."""

from __future__ import annotations

import numpy as np

from onnxmi.evaluation.output_metrics.classes import KL, metrics_of_classes
from onnxmi.evaluation.output_metrics.column_reader import reader_of
from onnxmi.evaluation.output_metrics.output_metric import (
    ComparedOutput,
    Contributions,
    OutputMetric,
    ratio,
    row_pairs,
    rows_of,
)
from onnxmi.outputs.view import Answers
from onnxmi.typing import Array, Ints

ALPHABET = 20  # classes from which on a sequence is read as text: letters and a blank
PAUSES = 0.2  # share of positions that are blank where it is


def find_blank(subject: ComparedOutput, original: Answers) -> int | None:
    """Return the class that stands for no character in a CTC output; None where the positions are tags.

    It is the commonest answer, and the first or the last class. Tags have fewer classes than an alphabet.
    """
    reader = reader_of(subject, original)
    classes = next((rows.shape[1] for rows in rows_of(subject.view, original)), 0)
    if not reader.one_of_many or classes < ALPHABET:
        return None
    answers = np.concatenate([reader.answers(rows) for rows in rows_of(subject.view, original)])
    counts = np.bincount(answers[answers >= 0], minlength=classes)
    # In CTC most positions are blank, and exporters put the blank first or last.
    blank = int(counts.argmax())
    return blank if blank in (0, classes - 1) and counts[blank] >= PAUSES * len(answers) else None


def decode(answers: Ints, blank: int) -> Ints:
    """Read the best class of each position: repetitions count once, blanks not at all."""
    # A doubled character has a blank between its two runs, so only repetitions in a row are one.
    changed = np.r_[True, answers[1:] != answers[:-1]]
    return np.asarray(answers[changed & (answers != blank)])


def edit_distance(first: Ints, second: Ints) -> int:
    """Return how many characters are to be put in, left out or replaced to make one text of the other."""
    row = np.arange(len(second) + 1)
    steps = np.arange(len(second) + 1)
    for number, character in enumerate(first, 1):
        replaced = row[:-1] + (second != character)
        # One row of the table at a time (Wagner and Fischer), with the inner loop as a running minimum.
        best = np.r_[number, np.minimum(row[1:] + 1, replaced)]
        row = np.minimum.accumulate(best - steps) + steps  # what is put in, in one go
    return int(row[-1])


def _texts(subject: ComparedOutput, original: Answers, cut: Answers) -> list[tuple[Ints, Ints]]:
    blank, reader = find_blank(subject, original), reader_of(subject, original)
    assert blank is not None
    return [
        (decode(reader.answers(first), blank), decode(reader.answers(second), blank))
        for first, second in row_pairs(subject.view, original, cut)
    ]


def _characters(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """Characters that are read as the original reads them: its length less the edits, which count up to its length."""
    now, edits = [], 0
    for first, second in _texts(subject, original, cut):
        length, distance = max(len(first), 1), edit_distance(first, second)
        now.append((length - min(distance, length), length))
        edits += distance
    parts = np.array(now, dtype=np.float64)
    return Contributions(parts[:, [1, 1]], parts, edits)


def _alike(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    same = np.array([np.array_equal(first, second) for first, second in _texts(subject, original, cut)], dtype=float)
    parts = np.stack([same, np.ones(len(same))], 1)
    return Contributions(parts[:, [1, 1]], parts, int((1 - same).sum()))


CHARACTERS = OutputMetric("characters", _characters, ratio)
LINES = OutputMetric("read-alike", _alike, ratio)


def metrics_of_sequences(subject: ComparedOutput, original: Answers, labels: Array | None) -> tuple[OutputMetric, ...]:
    """Return the metrics that fit, the one that decides first."""
    if find_blank(subject, original) is None:
        return metrics_of_classes(subject, original, labels)
    return CHARACTERS, LINES, KL
