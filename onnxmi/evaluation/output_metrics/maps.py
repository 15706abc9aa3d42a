"""Metrics of maps: what is marked, and where."""

from __future__ import annotations

from functools import partial

import numpy as np

from onnxmi.evaluation.output_metrics.classes import AGREEMENT, CERTAIN, KL
from onnxmi.evaluation.output_metrics.column_reader import ColumnReader, reader_of
from onnxmi.evaluation.output_metrics.numbers import EXPLAINED
from onnxmi.evaluation.output_metrics.output_metric import (
    ComparedOutput,
    Contributions,
    OutputMetric,
    mean_of_classes,
    ratio,
    row_pairs,
    rows_of,
)
from onnxmi.outputs.view import Answers
from onnxmi.typing import Array, Bools, Floats, Ints

THRESHOLDS = (0.5, 0.3)  # probabilities from which a cell is active
FEWEST = 10  # active cells, below which overlaps say nothing
COMMON = 1e-3  # share of cells from which a class's overlap counts


def _overlap(
    subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None, *, at: float
) -> Contributions:
    """Cells active in both models, and in either."""
    found = [_active(first, second, at) for first, second in _chances(subject, original, cut)]
    now = np.array([((a & b).sum(), (a | b).sum()) for a, b in found], dtype=np.float64)
    was = np.array([(a.sum(), a.sum()) for a, _ in found], dtype=np.float64)
    return Contributions(was, now)


def _f1(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """Twice the cells active in both models, and active cells of both."""
    found = [_active(first, second, THRESHOLDS[0]) for first, second in _chances(subject, original, cut)]
    now = np.array([(2 * (a & b).sum(), a.sum() + b.sum()) for a, b in found], dtype=np.float64)
    was = np.array([(2 * a.sum(), 2 * a.sum()) for a, _ in found], dtype=np.float64)
    return Contributions(was, now)


def _chances(subject: ComparedOutput, original: Answers, cut: Answers) -> list[tuple[Floats, Floats]]:
    reader = reader_of(subject, original)
    return [
        (reader.probabilities(first), reader.probabilities(second))
        for first, second in row_pairs(subject.view, original, cut)
    ]


def _active(first: Floats, second: Floats, at: float) -> tuple[Bools, Bools]:
    return first > at, second > at


def _class_overlap(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """Overlap of each class that the original gives to more than a few cells."""
    reader = reader_of(subject, original)
    classes = common_classes(subject, original, reader)
    was, now = [], []
    for first, second in row_pairs(subject.view, original, cut):
        a, b = (reader.answers(rows)[:, None] == classes for rows in (first, second))
        was.append(np.concatenate([a.sum(0), a.sum(0)]))
        now.append(np.concatenate([(a & b).sum(0), (a | b).sum(0)]))
    return Contributions(np.array(was, dtype=np.float64), np.array(now, dtype=np.float64))


def common_classes(subject: ComparedOutput, original: Answers, reader: ColumnReader) -> Ints:
    """Return the classes that the original gives to more than a few cells."""
    answers = np.concatenate([reader.answers(rows) for rows in rows_of(subject.view, original)])
    counts = np.bincount(answers[answers >= 0])
    return np.flatnonzero(counts > COMMON * len(answers))


# -- the table --------------------------------------------------------------------------------------------------------

IOU, IOU_LOW = (
    OutputMetric(f"iou{'' if at == 0.5 else f'{100 * at:.0f}'}", partial(_overlap, at=at), ratio) for at in THRESHOLDS
)
CELL_F1 = OutputMetric("cell-f1", _f1, ratio)
CLASS_IOU = OutputMetric("class-iou", _class_overlap, mean_of_classes, "resampled")


def metrics_of_maps(subject: ComparedOutput, original: Answers, _labels: Array | None) -> tuple[OutputMetric, ...]:
    """Return the metrics that fit, the one that decides first: those of a map of numbers where nothing is marked."""
    reader = reader_of(subject, original)
    if reader.one_of_many:
        if _whole_classes(subject, original, reader):
            return CLASS_IOU, CERTAIN, AGREEMENT, KL
        return (EXPLAINED,)
    if subject.view.link == "identity" and not reader.chances:
        return (EXPLAINED,)
    found = tuple(
        meter for meter, at in ((IOU, 0.5), (IOU_LOW, 0.3)) if _marked(subject, original, reader, at) >= FEWEST
    )
    return (CELL_F1, *found, EXPLAINED) if IOU in found else (*found, EXPLAINED)


def _whole_classes(subject: ComparedOutput, original: Answers, reader: ColumnReader) -> bool:
    """Whether the columns are classes of which one is chosen: said by the graph, or several of them chosen."""
    known = subject.view.link == "softmax" or reader.chances
    return known and len(common_classes(subject, original, reader)) > 1


def _marked(subject: ComparedOutput, original: Answers, reader: ColumnReader, at: float) -> int:
    return sum(int((reader.probabilities(rows) > at).sum()) for rows in rows_of(subject.view, original))
