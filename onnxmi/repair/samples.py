"""The samples that a stepwise repair runs both models on, and their division into folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from onnxmi.data.calibration import Calibration
from onnxmi.data.draws import chances
from onnxmi.repair.recorded import RecordedRows
from onnxmi.runtime.live_tensors import live_bytes
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.row_sampling import Batch, RowSampler
from onnxmi.statistics.row_weights import RowSquares, RowWeights, measure_row_weights
from onnxmi.statistics.way_back import WayBack
from onnxmi.typing import Samples

VALIDATION = -1  # the part of the validation samples; the folds of the fit samples are parts 0, 1, ...
FOLDS = 4  # parts of the fit samples, where there are few validation samples: each validates the others
DISK = 2**32  # bytes of live tensors of one of the models, most of which wait in temporary files
_DRAW = 0x57E9  # the draw of samples is none of the other draws
TRIED_SHARE, FEWEST_TRIED, MOST_TRIED = 0.25, 256, 1024  # of all samples, at least and at most, for trials
TRIED_ROWS = 0.25  # of the rows that an operator is refitted to, for trials
WORTHWHILE = 0.75  # share of all samples from which on there is no gain in leaving some out
FEW = 32  # samples: fewer do not tell a good ridge from a bad one


@dataclass(frozen=True, eq=False)
class RepairSamples:
    """Samples to repair on.

    Attributes
    ----------
    calibration : Calibration
        All samples.
    fit, validation : (n,) int64
        Those to solve on, and those to choose the ridge on.
    options : CaptureOptions
        How to run them.
    weights : RowWeights
        What each row of an operator's results counts in its regression.
    rows : float
        Share of the rows that an operator is otherwise refitted to.
    recorded : RecordedRows or None
        What the original gives on these rows, where several cuts are repaired on them.
    """

    calibration: Calibration
    fit: Samples
    validation: Samples
    options: CaptureOptions
    weights: RowWeights = field(default_factory=RowWeights)
    rows: float = 1.0
    recorded: RecordedRows | None = None

    def shared(self) -> RepairSamples:
        """Return the samples with a place where the first repair records what the others need of the original."""
        return replace(self, recorded=RecordedRows())

    def weighted(self, way: WayBack, squares: RowSquares | None = None) -> RepairSamples:
        """Return the samples with weights of rows by how much the outputs mind errors there.

        Parameters
        ----------
        way : WayBack
            From the outputs to the operators.
        squares : RowSquares, optional
            Of the samples of which weights are measured, where they are known.
        """
        batches = [batch for batch, _ in self.batches()]
        return replace(self, weights=measure_row_weights(way, self.fit, self.validation, batches, squares))

    def within(self, proto: onnx.ModelProto, disk: int = DISK) -> RepairSamples:
        """Return as many of the samples, drawn by content, as a model can be run on step by step within the room.

        Parameters
        ----------
        proto : onnx.ModelProto
            The larger of the two models.
        disk : int
            Bytes that its tensors may take, in temporary files for the most part.
        """
        data = self.calibration
        each = live_bytes(proto, data.one_run(self.fit)) / (data.step or 1)
        most = int(disk / max(each, 1))
        share = most / max(self._count, 1)
        return self if share >= 1 else self._thinned(share)

    def for_trials(self) -> RepairSamples:
        """Return some of the samples, drawn by content, on which to try what is then repaired on all; with fewer rows.

        What is repaired on them loses a little more, and about by the same factor at neighboring sizes.
        """
        count = min(max(TRIED_SHARE * self._count, FEWEST_TRIED), MOST_TRIED)
        if count >= self._count * WORTHWHILE:
            return self
        return replace(self._thinned(count / self._count), rows=TRIED_ROWS)

    @property
    def _count(self) -> int:
        return len(self.fit) + len(self.validation)

    def _thinned(self, share: float) -> RepairSamples:
        fit, validation = (self._drawn(own, max(FEW, int(share * len(own)))) for own in (self.fit, self.validation))
        return replace(self, fit=fit, validation=validation)

    def _drawn(self, samples: Samples, count: int) -> Samples:
        order = np.argsort(chances(self.calibration.fingerprints[samples], self.options.seed ^ _DRAW), kind="stable")
        return np.sort(samples[order[:count]])

    def sampler(self) -> RowSampler:
        """Return what draws rows of all these samples."""
        return RowSampler(self.calibration, np.concatenate([self.fit, self.validation]), self.options.seed)

    def batches(self) -> Iterator[tuple[Batch, int]]:
        """Yield all batches, each with the number of its part; see `parts_of`."""
        for part, samples in parts_of(self.calibration, self.fit, self.validation, self.options.seed):
            for chosen, feeds in self.calibration.packed(samples, self.options.batch_size):
                yield Batch.of(self.calibration, chosen, feeds), part


def parts_of(calibration: Calibration, fit: Samples, validation: Samples, seed: int) -> Iterator[tuple[int, Samples]]:
    """Divide the samples by content: the fit samples into folds where there are few validation samples.

    Positions of one sample are alike, so whole samples are held out, never rows.

    Yields
    ------
    int and (n,) int64
        The number of the part, `VALIDATION` for the validation samples, and its samples.
    """
    folds = min(FOLDS, len(fit)) if len(validation) < FEW else 1
    # By content: a sample is in the same fold whatever its place in the file.
    order = np.argsort(chances(calibration.fingerprints[fit], seed), kind="stable")
    for part, chosen in enumerate(np.array_split(order, max(folds, 1))):
        yield part, fit[np.sort(chosen)]
    yield VALIDATION, validation
