"""Expected flips: how many answers an error of the measured size changes, by the margins that they have.

Where few answers changed, their number says little. Each answer's margin tells how likely an error of the size that all
show would change it; the sum of these chances is steadier than a count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxmi.evaluation.output_metrics.column_reader import reader_of
from onnxmi.evaluation.output_metrics.output_metric import ComparedOutput, row_pairs
from onnxmi.evaluation.output_metrics.sequences import find_blank
from onnxmi.outputs.view import Answers
from onnxmi.typing import Floats

NEAREST = 0.25  # share of the answers, by margin, whose errors count

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class ExpectedFlips:
    """How many answers change by what their margins say.

    Attributes
    ----------
    share : float
        Of the answers, or of the samples that change at some position.
    of_samples : bool
        Whether a whole sample is one answer, as a line of text is.
    """

    share: float
    of_samples: bool

    @property
    def text(self) -> str:
        """For people: `1.3 % of the answers are expected to change, by margins`."""
        noun, where = ("samples", " at some position") if self.of_samples else ("answers", "")
        return f"{100 * self.share:.1f} % of the {noun} are expected to change{where}, by margins"


def expected_flips(subject: ComparedOutput, original: Answers, cut: Answers) -> ExpectedFlips | None:
    """Return the expected share of changed answers; None where an output chooses no class.

    The error of the difference between an answer's two best logits is taken for normal. Its variance is that of the
    quarter of the answers that have the smallest margins, since only these may change: errors of logits grow with the
    logits on some models and shrink on others. Measured in nine runs (docs/gate.md) the result is between 0.6 and 1.2
    times what changes; the variance of all answers gives 0.4 to 2.7 times. A line of text changes at some position
    more often than it is read otherwise.

    Parameters
    ----------
    subject : Subject
        Of kind classes or sequence.
    original, cut : Answers
        Of the same samples.
    """
    if subject.kind not in ("classes", "sequence"):
        return None
    reader = reader_of(subject, original)
    margins, errors = [], []
    for first, second in row_pairs(subject.view, original, cut):
        margin, error = _differences(reader.logits(first), reader.logits(second), one_of_many=reader.one_of_many)
        margins.append(margin)
        errors.append(error)
    # Only answers near a border can flip, and errors there may differ from those of clear answers.
    spread = _nearby_spread(np.concatenate(margins), np.concatenate(errors))
    if not math.isfinite(spread):
        return ExpectedFlips(1.0, of_samples=False)
    stays = [_stays(margin, spread) for margin in margins]
    if subject.kind == "sequence" and find_blank(subject, original) is not None:
        # A line stays as it is read only if every position stays.
        return ExpectedFlips(1 - float(np.mean([chances.prod() for chances in stays])), of_samples=True)
    return ExpectedFlips(1 - float(np.mean(np.concatenate(stays))), of_samples=False)


def _nearby_spread(margins: Floats, errors: Floats) -> float:
    """Return the root mean square error of the answers that are nearest to changing."""
    nearest = margins <= np.quantile(margins, NEAREST)
    return math.sqrt(float(np.mean(np.square(errors[nearest]))))


def _differences(first: Floats, second: Floats, *, one_of_many: bool) -> tuple[Floats, Floats]:
    """Return the original's margin of each answer, and what the cut model's is off."""
    if not one_of_many:
        margin = np.abs(first).reshape(-1)
        return margin, (np.sign(first) * (second - first)).reshape(-1)
    rows, best = np.arange(len(first)), np.argpartition(first, -2, axis=1)[:, -2:]
    order = np.argsort(first[rows[:, None], best], axis=1)
    next_best, top = np.take_along_axis(best, order, 1).T
    was, now = (side[rows, top] - side[rows, next_best] for side in (first, second))
    return was, now - was


def _stays(margin: Floats, spread: float) -> Floats:
    """Return the chance that a normal error of this spread leaves each margin above zero."""
    if spread == 0:
        return np.ones(len(margin))
    return np.asarray((1 + _erf(margin / (spread * math.sqrt(2)))) / 2)
