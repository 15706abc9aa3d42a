"""The samples that a stepwise repair runs both models on, and their division into parts that judge each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxmi.data.calibration import Calibration, chances
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.row_sampling import Batch, RowSampler
from onnxmi.typing import Samples

JUDGES = -1  # the part of the samples that nothing is fitted to; those fitted to are parts 0, 1, ...
FOLDS = 4  # parts that the samples to fit to are divided into, where few others judge
FEW = 32  # samples: fewer do not tell a good ridge from a bad one


@dataclass(frozen=True, eq=False)
class RepairSamples:
    """Samples to repair on.

    Attributes
    ----------
    calibration : Calibration
        All samples.
    fit, judge : (n,) int64
        Those to solve on, and those to judge the ridge on.
    options : CaptureOptions
        How to run them.
    """

    calibration: Calibration
    fit: Samples
    judge: Samples
    options: CaptureOptions

    def sampler(self) -> RowSampler:
        """Return what draws rows of all these samples."""
        return RowSampler(self.calibration, np.concatenate([self.fit, self.judge]), self.options.seed)

    def batches(self) -> list[tuple[Batch, int]]:
        """Return all batches, each with the number of its part; see `parts_of`."""
        parts = parts_of(self.calibration, self.fit, self.judge, self.options.seed)
        return [
            (Batch.of(self.calibration, chosen, feeds), part)
            for part, samples in parts
            for chosen, feeds in self.calibration.packed(samples, self.options.batch_size)
        ]


def parts_of(calibration: Calibration, fitted: Samples, judged: Samples, seed: int) -> Iterator[tuple[int, Samples]]:
    """Divide the samples by content: those to fit to in parts that judge each other, where few others judge.

    Positions of one sample are alike, so that it is samples that are held out, never rows.

    Yields
    ------
    int and (n,) int64
        The number of the part, `JUDGES` for the samples that judge alone, and its samples.
    """
    folds = min(FOLDS, len(fitted)) if len(judged) < FEW else 1
    order = np.argsort(chances(calibration.fingerprints[fitted], seed), kind="stable")
    for part, chosen in enumerate(np.array_split(order, max(folds, 1))):
        yield part, fitted[np.sort(chosen)]
    yield JUDGES, judged
