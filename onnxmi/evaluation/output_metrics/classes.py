"""Metrics of classes: a choice of one, or decisions on each."""

from __future__ import annotations

from functools import partial

import numpy as np

from onnxmi.evaluation.divergence import divergences
from onnxmi.evaluation.output_metrics.column_reader import (
    ColumnReader,
    column_count,
    fitted_labels,
    one_sided,
    reader_of,
)
from onnxmi.evaluation.output_metrics.margins import likely_loss
from onnxmi.evaluation.output_metrics.output_metric import (
    ComparedOutput,
    Contributions,
    OutputMetric,
    average,
    mean_of_classes,
    ratio,
    row_pairs,
    rows_of,
)
from onnxmi.evaluation.output_metrics.ranks import area_under_curve, rank_correlation
from onnxmi.outputs.view import Answers
from onnxmi.typing import Array, Bools, Floats, Ints

MANY_CLASSES = 10  # from which on the five best are of interest
RANKED = 64  # columns of which ranks are compared: those that move most


# -- answers that are right -------------------------------------------------------------------------------------------


def _accuracy(subject: ComparedOutput, original: Answers, cut: Answers, labels: Array | None) -> Contributions:
    reader, told = reader_of(subject, original), fitted_labels(labels, subject, original)
    assert told is not None
    was, now, lost, gained = [], [], 0, 0
    for label, (first, second) in zip(told, row_pairs(subject.view, original, cut), strict=True):
        before, after = (_right(reader, rows, label) for rows in (first, second))
        was.append((before.sum(), len(label)))
        now.append((after.sum(), len(label)))
        lost, gained = lost + int((before & ~after).sum()), gained + int((after & ~before).sum())
    return Contributions(np.array(was, dtype=np.float64), np.array(now, dtype=np.float64), lost, gained, own=False)


def _right(reader: ColumnReader, rows: Floats, label: Ints) -> Bools:
    if reader.chooses(rows, label):
        return _among(rows, label, 1)
    return np.asarray(reader.answers(rows) == label)


def _agreement(
    subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None, *, weighted: bool
) -> Contributions:
    reader = reader_of(subject, original)
    was, now, changed = [], [], 0
    for first, second in row_pairs(subject.view, original, cut):
        same = reader.answers(first) == reader.answers(second)
        weights = reader.certainty(first) if weighted else np.ones(len(same))
        was.append((weights.sum(), weights.sum()))
        now.append(((weights * same).sum(), weights.sum()))
        changed += int((~same).sum())
    return Contributions(np.array(was), np.array(now), changed)


def _likely_disagreement(
    subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None, *, weighted: bool
) -> float | None:
    return likely_loss(subject, original, cut, weighted=weighted)


def _best(
    subject: ComparedOutput, original: Answers, cut: Answers, labels: Array | None, *, most: int
) -> Contributions:
    """Whether the label, or the original's own choice, is among the largest columns."""
    told = fitted_labels(labels, subject, original)
    was, now, lost, gained = [], [], 0, 0
    for number, (first, second) in enumerate(row_pairs(subject.view, original, cut)):
        wanted = first.argmax(1) if told is None else told[number]
        before, after = (_among(rows, wanted, most) for rows in (first, second))
        was.append((before.sum(), len(wanted)))
        now.append((after.sum(), len(wanted)))
        lost, gained = lost + int((before & ~after).sum()), gained + int((after & ~before).sum())
    own = told is None
    parts = np.array(was, dtype=np.float64), np.array(now, dtype=np.float64)
    return Contributions(*parts, lost, None if own else gained, own)


def _among(rows: Floats, wanted: Ints, most: int) -> Bools:
    # A label outside of the columns is never right, but counts as a trial.
    known = (wanted >= 0) & (wanted < rows.shape[1])
    at = np.where(known, wanted, 0)
    entry = rows[np.arange(len(rows)), at][:, None]
    ahead = ~(rows <= entry) | ((rows == entry) & (np.arange(rows.shape[1]) < at[:, None]))
    return np.asarray(known & (ahead.sum(1) < most) & ~np.isnan(rows).any(1))


def _f1(subject: ComparedOutput, original: Answers, cut: Answers, labels: Array | None) -> Contributions:
    """Twice the right answers of each class, and its labels and answers."""
    told = fitted_labels(labels, subject, original)
    assert told is not None
    pairs = list(row_pairs(subject.view, original, cut))
    # a row that is no number answers a class of its own, which is never right
    width = max(pairs[0][0].shape[1], max(int(label.max()) for label in told) + 1) + 1
    was, now = (
        [_class_counts(label, pair[side], width) for label, pair in zip(told, pairs, strict=True)] for side in (0, 1)
    )
    return Contributions(np.array(was, dtype=np.float64), np.array(now, dtype=np.float64))


def _class_counts(label: Ints, rows: Floats, width: int) -> Ints:
    answers = np.where(np.isnan(rows).any(1), width - 1, rows.argmax(1))
    label = np.where(label < 0, width - 1, label)
    hits = np.bincount(label[(label == answers) & (label < width - 1)], minlength=width)
    return np.concatenate([2 * hits, np.bincount(label, minlength=width) + np.bincount(answers, minlength=width)])


# -- scores -----------------------------------------------------------------------------------------------------------


def _divergence(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """KL(original || cut) of each sample, in nats a row."""
    reader = reader_of(subject, original)
    now = [
        divergences(reader.link, reader.logits(first), reader.logits(second)).sum(1).mean()
        for first, second in row_pairs(subject.view, original, cut)
    ]
    return Contributions(np.zeros((len(now), 1)), np.array(now)[:, None])


def scores(reader: ColumnReader, rows: Floats, top: int | None) -> Floats:
    """Return what ranks are compared of: (columns,) logits in the mean over a sample's rows.

    With a class `top` that all samples share, it is the logarithm of how much likelier all others are.
    """
    logits = reader.logits(rows)
    if top is None:
        return np.asarray(logits.mean(0))
    # The log-odds against the commonest answer: one score, as most rows have that answer.
    others = np.delete(logits, top, axis=1)
    return np.asarray((np.logaddexp.reduce(others, axis=1) - logits[:, top]).mean(keepdims=True))


def _score_pairs(subject: ComparedOutput, original: Answers, cut: Answers) -> tuple[Floats, Floats]:
    """Return both models' (samples, columns) scores, of the columns that move most."""
    reader, top = reader_of(subject, original), None
    if reader.one_of_many:
        answers = np.concatenate([reader.answers(rows) for rows in rows_of(subject.view, original)])
        top = int(np.bincount(answers[answers >= 0]).argmax())
    pairs = list(row_pairs(subject.view, original, cut))
    first, second = (np.stack([scores(reader, rows, top) for rows in side]) for side in zip(*pairs, strict=True))
    # Ranks of a column that hardly moves are ranks of rounding.
    most = np.sort(np.argsort(-first.std(0), kind="stable")[:RANKED])
    return first[:, most], second[:, most]


def _ranks(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    first, second = _score_pairs(subject, original, cut)
    return Contributions(np.hstack([first, first]), np.hstack([first, second]))


def _curve(subject: ComparedOutput, original: Answers, cut: Answers, labels: Array | None) -> Contributions:
    """Scores against labels of two classes."""
    told = two_classes(labels, subject, original)
    assert told is not None
    first, second = _score_pairs(subject, original, cut)
    up = told
    if (area_under_curve(np.stack([first[:, 0], up], 1), np.ones((1, len(up)))) < 0.5)[0]:
        up = 1 - up  # the score is that of the other class
    return Contributions(np.stack([first[:, 0], up], 1), np.stack([second[:, 0], up], 1))


def two_classes(labels: Array | None, subject: ComparedOutput, original: Answers) -> Floats | None:
    """Return labels as 0 and 1, one a sample, where they are of two classes and the output has one score for them."""
    told = fitted_labels(labels, subject, original)
    if told is None or any(len(label) != 1 for label in told) or column_count(subject, original) > 2:
        return None
    flat = np.concatenate(told)
    return flat.astype(np.float64) if set(np.unique(flat)) == {0, 1} else None


# -- the table --------------------------------------------------------------------------------------------------------

ACCURACY = OutputMetric("accuracy", _accuracy, ratio, labels=True, foretell=likely_loss)
AGREEMENT, CERTAIN = (
    OutputMetric(
        name, partial(_agreement, weighted=weighted), ratio, foretell=partial(_likely_disagreement, weighted=weighted)
    )
    for name, weighted in (("agreement", False), ("certain-agreement", True))
)
KL = OutputMetric("kl", _divergence, average, "mean", unit="nats", higher_is_better=False)
RANKS = OutputMetric("rank-correlation", _ranks, rank_correlation, "resampled")
F1 = OutputMetric("f1", _f1, mean_of_classes, "resampled", labels=True)
AUC = OutputMetric("auc", _curve, area_under_curve, "resampled", labels=True)


def best_of(most: int) -> OutputMetric:
    """Return whether the right class is among the `most` likeliest."""
    return OutputMetric(f"top{most}", partial(_best, most=most), ratio)


def metrics_of_classes(subject: ComparedOutput, original: Answers, labels: Array | None) -> tuple[OutputMetric, ...]:
    """Return the metrics that fit, the one that decides first.

    Where nearly all answers are alike, none can be lost: there the order of the scores decides.
    """
    reader, alike = reader_of(subject, original), one_sided(subject, original)
    labelled = fitted_labels(labels, subject, original) is not None
    many = reader.one_of_many and column_count(subject, original) >= MANY_CLASSES
    fits = (
        (ACCURACY, labelled and not alike),
        (AUC, alike and two_classes(labels, subject, original) is not None),
        (CERTAIN, not alike),
        (RANKS, original.count > 2),
        (ACCURACY, labelled),
        (AUC, two_classes(labels, subject, original) is not None),
        (AGREEMENT, True),
        (KL, True),
        (F1, labelled and reader.one_of_many),
        (best_of(5), many),
    )
    return tuple(dict.fromkeys(meter for meter, fit in fits if fit))
