"""Margins: by how much each answer is right, and what is lost in all likelihood with the errors of a cut model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.evaluation.output_metrics.column_reader import ColumnReader, fitted_labels, reader_of
from onnxmi.evaluation.output_metrics.near_errors import chances_to_stay
from onnxmi.evaluation.output_metrics.output_metric import ComparedOutput, row_pairs
from onnxmi.outputs.view import Answers
from onnxmi.typing import Array, Bools, Floats, Ints

MOST_ANSWERS = 200_000  # of more, a count says as much, and says it sooner


@dataclass(frozen=True, eq=False)
class Borders:
    """How far answers are from changing, by both models.

    Attributes
    ----------
    right : (answers,) bool
        Whether the original is right; without labels it always is.
    stays : (answers,) float64
        The chance that the cut model is.
    certainty : (answers,) float64
        How sure the original is, see `ColumnReader.certainty`; 1 with labels.
    samples : (answers,) int64
        The sample of each.
    """

    right: Bools
    stays: Floats
    certainty: Floats
    samples: Ints


def borders(subject: ComparedOutput, original: Answers, cut: Answers, labels: Array | None = None) -> Borders | None:
    """Measure margins and their errors; None where there are so many answers that nobody needs them.

    Parameters
    ----------
    subject : ComparedOutput
        Of kind classes or sequence.
    original, cut : Answers
        Of the same samples.
    labels : array, optional
        What is right; else what the original answers is.
    """
    reader = reader_of(subject, original)
    told = fitted_labels(labels, subject, original)
    margins, errors, certainty, samples = [], [], [], []
    for number, (first, second) in enumerate(row_pairs(subject.view, original, cut)):
        wanted = None if told is None else told[number]
        with np.errstate(all="ignore"):  # what is no number counts as wrong
            was, now = _margins(reader, reader.logits(first), reader.logits(second), wanted)
            margins.append(was)
            errors.append(np.where(np.isneginf(was), 0.0, now - was))
        certainty.append(reader.certainty(first) if wanted is None else np.ones(len(was)))
        samples.append(np.full(len(was), number))
        if len(was) * original.count > MOST_ANSWERS:
            return None
    joined = np.concatenate(margins)
    stays = chances_to_stay(joined, np.concatenate(errors))
    return Borders(joined >= 0, stays, np.concatenate(certainty), np.concatenate(samples))


def likely_loss(
    subject: ComparedOutput, original: Answers, cut: Answers, labels: Array | None = None, *, weighted: bool = False
) -> float | None:
    """Return the share of right answers that is lost in all likelihood; None where margins do not tell.

    It is nearly free of bias, and off by less than a count is: see docs/outputs.md.

    Parameters
    ----------
    weighted : bool
        Weigh each answer by how sure the original is of it.
    """
    found = borders(subject, original, cut, labels)
    if found is None:
        return None
    weights = found.certainty if weighted else np.ones(len(found.stays))
    total = float(weights.sum())
    return float(weights @ (found.right - found.stays)) / total if total else 0.0


def _margins(reader: ColumnReader, first: Floats, second: Floats, wanted: Ints | None) -> tuple[Floats, Floats]:
    """Return by how much what is right is ahead in either model's logits, (answers,) each."""
    if not reader.chooses(first, wanted):
        cells = first.reshape(-1)
        side = np.where(cells > 0, 1.0, -1.0) if wanted is None else np.where(wanted > 0, 1.0, -1.0)
        return side * cells, side * second.reshape(-1)
    right = first.argmax(1) if wanted is None else wanted
    known = (right >= 0) & (right < first.shape[1])
    at = np.where(known, right, 0)[:, None]
    was, now = (np.where(known, _ahead(logits, at), -np.inf) for logits in (first, second))
    return was, now


def _ahead(logits: Floats, at: Ints) -> Floats:
    """Return how far one column of each row is above the best of the others."""
    others = logits.copy()
    np.put_along_axis(others, at, -np.inf, 1)
    return np.asarray(np.take_along_axis(logits, at, 1)[:, 0] - others.max(1))
