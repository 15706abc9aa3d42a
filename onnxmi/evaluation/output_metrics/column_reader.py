"""What the columns of an output say: a choice of one class, or a decision on each; and which labels fit them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.evaluation.divergence import probabilities
from onnxmi.evaluation.output_metrics.output_metric import ComparedOutput, rows_of
from onnxmi.outputs.view import Answers, Link
from onnxmi.typing import Array, Floats, Ints

ONE_SIDED = 0.98  # share of the commonest answer from which a constant answer loses no more than two points
FEW = 5  # answers of another class, below which nothing can be counted
LIKE = 5.0  # times the spread of a logit that another one spreads, or lies away
_ROUNDING = 1e-6  # of the sum of probabilities of half precision over many classes
_LEAST = 1e-12  # probability that a logarithm is taken of


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

    def chooses(self, rows: Floats, label: Ints | None) -> bool:
        """Whether a row's answer is one of its columns; a label a row says so, whatever the link is."""
        return self.one_of_many if label is None else len(label) == len(rows) and rows.shape[1] > 1

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
    if subject.view.link == "softmax" and column_count(subject, original) > 1:
        return ColumnReader("softmax", chances=False)
    if subject.view.link != "identity":
        return ColumnReader("sigmoid", chances=False)
    # Half precision over many classes rounds sums of probabilities beyond 1.
    inside = all(bool(((rows >= 0) & (rows <= 1 + _ROUNDING)).all()) for rows in rows_of(subject.view, original))
    if column_count(subject, original) == 1:
        return ColumnReader("sigmoid", inside)
    whole = inside and all(
        bool((np.abs(rows.sum(1) - 1) <= max(_ROUNDING * rows.shape[1], 1e-3)).all())
        for rows in rows_of(subject.view, original)
    )
    return ColumnReader("softmax" if whole or not inside else "sigmoid", inside)


def column_count(subject: ComparedOutput, original: Answers) -> int:
    """Return how many columns an output has."""
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
