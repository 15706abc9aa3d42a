"""Expected flips: how many answers change by the margins that they have, for people to read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.evaluation.output_metrics.margins import borders
from onnxmi.evaluation.output_metrics.output_metric import ComparedOutput
from onnxmi.evaluation.output_metrics.sequences import find_blank
from onnxmi.outputs.view import Answers


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
    """Return the expected share of changed answers; None where an output chooses no class, or a count is as good.

    A line of text changes at some position more often than it is read otherwise.

    Parameters
    ----------
    subject : ComparedOutput
        Of kind classes or sequence.
    original, cut : Answers
        Of the same samples.
    """
    if subject.kind not in ("classes", "sequence"):
        return None
    found = borders(subject, original, cut)
    if found is None or not len(found.stays):
        return None
    if subject.kind == "sequence" and find_blank(subject, original) is not None:
        # A line stays as it is read only if every position stays.
        starts = np.flatnonzero(np.diff(found.samples, prepend=-1))
        return ExpectedFlips(1 - float(np.multiply.reduceat(found.stays, starts).mean()), of_samples=True)
    return ExpectedFlips(1 - float(found.stays.mean()), of_samples=False)
