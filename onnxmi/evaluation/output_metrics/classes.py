"""Metrics of classes: a choice of one, or decisions on each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxmi.evaluation.divergence import divergences, probabilities
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
from onnxmi.outputs.view import Answers, Link
from onnxmi.typing import Array, Bools, Floats, Ints

ONE_SIDED = 0.98  # share of the commonest answer from which a constant answer loses no more than two points
FEW = 5  # answers of another class, below which nothing can be counted
MANY_CLASSES = 10  # from which on the five best are of interest
LIKE = 5.0  # times the spread of a logit that another one spreads, or lies away
RANKED = 64  # columns of which ranks are compared: those that move most
_ROUNDING = 1e-6  # of the sum of probabilities of half precision over many classes
_LEAST = 1e-12  # probability that a logarithm is taken of


# -- what the columns say ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColumnReader:
    """How an output's columns are read.

    Attributes
    ----------
    link : str
        softmax for a choice of one column, sigmoid for a decision on each.
    chances : bool
        Whether the columns are probabilities already.
    """

    link: Link
    chances: bool

    @property
    def one_of_many(self) -> bool:
        """Whether a row chooses one of its columns."""
        return self.link == "softmax"

    def logits(self, rows: Floats) -> Floats:
        """Return the argument of the link."""
        if not self.chances:
            return rows
        # The inverse of a softmax up to a constant, and of a sigmoid: log p - log(1 - p).
        likely = np.log(np.maximum(rows, _LEAST))
        return likely if self.one_of_many else np.asarray(likely - np.log(np.maximum(1 - rows, _LEAST)))

    def probabilities(self, rows: Floats) -> Floats:
        """Return (rows, columns) probabilities."""
        return rows if self.chances else probabilities(self.link, rows)

    def answers(self, rows: Floats) -> Ints:
        """Return the chosen column of each row, (rows,), or the decision on each cell, (cells,); -1 where none is."""
        if self.one_of_many:
            return np.where(np.isnan(rows).any(1), -1, rows.argmax(1))
        cells = rows.reshape(-1)
        return np.where(np.isnan(cells), -1, cells > (0.5 if self.chances else 0.0)).astype(np.int64)

    def certainty(self, rows: Floats) -> Floats:
        """Return how sure each answer is: the margin between the two largest probabilities."""
        chances = self.probabilities(rows)
        if not self.one_of_many:
            return np.abs(2 * chances.reshape(-1) - 1)
        # Only the two largest are needed: a partition is faster than a sort over many classes.
        top = np.partition(chances, -2, axis=1)
        return np.asarray(top[:, -1] - top[:, -2])


def reader_of(subject: ComparedOutput, original: Answers) -> ColumnReader:
    """Find out how an output's columns are read, from its link or else from its values."""
    if subject.view.link == "softmax" and _columns(subject, original) > 1:
        return ColumnReader("softmax", chances=False)
    if subject.view.link != "identity":
        return ColumnReader("sigmoid", chances=False)
    # Half precision over many classes rounds sums of probabilities beyond 1.
    inside = all(bool(((rows >= 0) & (rows <= 1 + _ROUNDING)).all()) for rows in rows_of(subject.view, original))
    if _columns(subject, original) == 1:
        return ColumnReader("sigmoid", inside)
    whole = inside and all(
        bool((np.abs(rows.sum(1) - 1) <= max(_ROUNDING * rows.shape[1], 1e-3)).all())
        for rows in rows_of(subject.view, original)
    )
    return ColumnReader("softmax" if whole or not inside else "sigmoid", inside)


def _columns(subject: ComparedOutput, original: Answers) -> int:
    return next((rows.shape[1] for rows in rows_of(subject.view, original)), 0)


def look_like_logits(subject: ComparedOutput, original: Answers) -> bool:
    """Whether numbers may be logits: their columns move alike, round means that do not tell them apart.

    The columns of a regression have units of their own, and one of them is nearly always the largest.
    """
    rows = np.concatenate(list(rows_of(subject.view, original)))
    if rows.shape[1] < 2:
        return False
    # Medians, as one column that stands out is just what is looked for.
    spread = rows.std(0)
    alike = float(spread.max()) <= LIKE * float(np.median(spread))
    between = float(rows.mean(0).std()) <= LIKE * float(np.median(spread))
    return alike and between and not one_sided(subject, original)


def one_sided(subject: ComparedOutput, original: Answers) -> bool:
    """Whether nearly all of the original's answers are alike, so that counting answers says next to nothing."""
    reader = reader_of(subject, original)
    answers = np.concatenate([reader.answers(rows) for rows in rows_of(subject.view, original)])
    _, counts = np.unique(answers, return_counts=True)
    return len(answers) - int(counts.max()) < max(FEW, (1 - ONE_SIDED) * len(answers))


def fitted_labels(labels: Array | None, subject: ComparedOutput, original: Answers) -> list[Ints] | None:
    """Return the labels of each sample's answers; None where there are none, or they are of something else.

    There is one label a row, the column that is right, or where columns are decided on each by itself one a cell.
    """
    if labels is None or labels.dtype.kind not in "iub" or len(labels) != original.count:
        return None
    one_of_many = reader_of(subject, original).one_of_many
    told = [np.asarray(label, dtype=np.int64).reshape(-1) for label in labels]
    fits = all(
        len(label) in (len(rows), len(rows) if one_of_many else rows.size)
        for label, rows in zip(told, rows_of(subject.view, original), strict=True)
    )
    return told if fits else None


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
    if len(label) == len(rows) and rows.shape[1] > 1:
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
    if told is None or any(len(label) != 1 for label in told) or _columns(subject, original) > 2:
        return None
    flat = np.concatenate(told)
    return flat.astype(np.float64) if set(np.unique(flat)) == {0, 1} else None


# -- the table --------------------------------------------------------------------------------------------------------

ACCURACY = OutputMetric("accuracy", _accuracy, ratio, labels=True)
AGREEMENT = OutputMetric("agreement", partial(_agreement, weighted=False), ratio)
CERTAIN = OutputMetric("certain-agreement", partial(_agreement, weighted=True), ratio)
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
    many = reader.one_of_many and _columns(subject, original) >= MANY_CLASSES
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
