"""Which rows of an activation are measured: drawn by what the samples are, not by where they stand.

A row (a token, a position of an image) is taken if a hash of the seed, of its sample's content and of its place in the
sample falls below the share that is wanted. So the same rows are taken whatever the batches and the order of samples,
and a sample gives the same rows in whatever file it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnxmi.data.calibration import BatchFeeds, Calibration
from onnxmi.data.draws import GOLDEN, chances, scramble
from onnxmi.graph.padding_mask import Mask
from onnxmi.typing import Array, Floats, Ints, Samples

RowIndices = Ints
OFTEN = 4.0  # times that a mean row is drawn where rows are few: rounding then changes weights by little


@dataclass(frozen=True)
class Batch:
    """What a sampler of rows needs to know of one batch.

    Attributes
    ----------
    feeds : mapping
        The model's inputs.
    count, fed : int
        How many samples count, and how many were fed: a graph with a fixed batch gets full ones.
    prints : (count,) uint64
        Fingerprints of the samples' contents.
    labels : (count,) int64 or None
        Their classes.
    """

    feeds: Mapping[str, Array]
    count: int
    fed: int
    prints: NDArray[np.uint64]
    labels: Ints | None = None
    _hashes: dict[tuple[int, int], Floats] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(calibration: Calibration, chosen: Samples, feeds: BatchFeeds) -> Batch:
        """Describe a batch that `Calibration.batches` yielded."""
        labels = None if calibration.labels is None else calibration.labels[chosen]
        return Batch(feeds, len(chosen), len(feeds.samples), calibration.fingerprints[chosen], labels)

    def hashes(self, positions: int, seed: int) -> Floats:
        """(count * positions,) numbers in [0, 1), one for each row of an activation with so many rows a sample."""
        if (positions, seed) not in self._hashes:
            # A Weyl sequence from the sample's print: distinct for each position, and cheap.
            steps = np.arange(1, positions + 1, dtype=np.uint64) * np.uint64(GOLDEN)
            self._hashes[positions, seed] = chances((scramble(self.prints)[:, None] + steps).reshape(-1), seed)
        return self._hashes[positions, seed]


class RowSampler:
    """Samples rows from every batch of a set of samples.

    Attributes
    ----------
    seed : int
        Of the draw.
    """

    def __init__(self, calibration: Calibration, samples: Samples, seed: int) -> None:
        """`samples` are all that will be drawn from, in however many sets."""
        self.seed = seed
        self._calibration, self._samples = calibration, samples
        self._unpadded: dict[str, int] = {}

    def sample(
        self,
        rows: int,
        batch: Batch,
        mask: Mask | None,
        n_rows: float,
        nodes: int = 1,
        weights: Floats | None = None,
    ) -> RowIndices:
        """Draw rows of one batch, without padding.

        Parameters
        ----------
        rows : int
            Of the tensor that they are drawn from: see `onnxmi.graph.linear.row_count`.
        mask : Mask or None
            The padding of the rows' positions.
        n_rows : float
            Rows wanted of all samples together, in expectation; all are taken where there are no more. A shard draws
            its share of them.
        nodes : int
            How many activations they are drawn from.
        weights : (count * positions,) float64, optional
            What each row counts, 1 on average: one is drawn as much more often, and may be drawn several times.

        Returns
        -------
        (rows,) int64
            Sorted places for `onnxmi.graph.linear.feature_rows`.
        """
        # An operator that mixes samples into one axis has rows that belong to no sample.
        by_sample = rows % batch.fed == 0
        # Samples that only fill the batch up come last, and are left out.
        counted = rows // batch.fed * batch.count if by_sample else rows
        # Of the whole set, as if every sample were as long as those of this batch: the chance of a row must not depend
        # on the batch it is in.
        total = rows / batch.fed * len(self._samples)
        taken = np.ones(counted, dtype=np.bool_)
        if mask is not None and batch.feeds[mask.name].size == rows:
            taken = mask.flat(batch.feeds[mask.name])[:counted]
            total = self._rows_without_padding(mask.name)
        # Every node that shares the weight is drawn from alike.
        share = n_rows / self._calibration.shards / max(total * nodes, 1)
        if weights is not None:
            # Rounded up or down at random, by the row's own number: as often on average as its weight says.
            times = np.ceil(min(share, OFTEN) * weights - batch.hashes(rows // batch.fed, self.seed))
            return np.repeat(np.flatnonzero(taken), times[taken].astype(np.int64))
        if share < 1:
            one = Batch(batch.feeds, 1, 1, batch.prints[:1])
            hashes = batch.hashes(rows // batch.fed, self.seed) if by_sample else one.hashes(rows, self.seed)
            # A row is taken by its own number: what is drawn with a small share is among what a larger one draws.
            taken = taken & (hashes < share)
        return np.flatnonzero(taken)

    def _rows_without_padding(self, mask: str) -> int:
        if mask not in self._unpadded:
            array = np.asarray(self._calibration.arrays[mask])
            own = array if mask in self._calibration.whole else array[self._samples]
            self._unpadded[mask] = int(np.count_nonzero(own))
        return self._unpadded[mask]
