"""Gauges: each reduces what it is shown of every batch to sums, for several sets of samples apart."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from onnxmi.errors import ModelError
from onnxmi.graph.linear import feature_rows, row_count, weights_of
from onnxmi.information import ClassMeans, JointHistogram, MomentAccumulator, Moments, NotFiniteError, quantile_edges
from onnxmi.model import Model
from onnxmi.statistics.attention_scores import ScoreProduct
from onnxmi.statistics.row_sampling import Batch, Drawer, Places
from onnxmi.statistics.shared_inputs import Source
from onnxmi.typing import Array, Floats

HISTOGRAM_ROWS = 8_192
BINS = 8
CLASSES = 1_024  # labels beyond it are no classes
CHUNK = 2_048  # rows that are multiplied at once


def spilled(moments: Moments) -> Moments:
    """Move moments into a temporary file that the operating system reads from when they are needed."""
    return Moments(moments.count, moments.mean, _on_disk(moments.scatter))


def _on_disk(array: Floats) -> Floats:
    if not array.size:
        return array
    with tempfile.TemporaryFile(prefix="onnxmi-") as file:  # unlinked: it vanishes with the last array on it
        array.tofile(file)
        file.flush()
        return np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)


@dataclass(frozen=True)
class Histograms:
    """Joint histograms of a source's features with the outputs of each of its readers, on a share of the rows."""

    weights: Mapping[str, Floats]
    step: int
    found: dict[str, list[JointHistogram]]

    @staticmethod
    def of(model: Model, source: Source, wanted: int) -> Histograms:
        """Start counting."""
        weights = {linear.key: weights_of(model, linear) for linear in source.linears}
        return Histograms(weights, max(1, wanted // HISTOGRAM_ROWS), {})

    def count(self, rows: Array) -> None:
        """Take in rows (groups, N, K); the first ones set the bins' edges."""
        drawn = rows[:, :: self.step]
        for key, weights in self.weights.items():
            made = np.matmul(drawn, weights.astype(drawn.dtype))
            if key not in self.found:
                pairs = zip(drawn, made, strict=True)
                self.found[key] = [JointHistogram(quantile_edges(x, BINS), quantile_edges(y, BINS)) for x, y in pairs]
            for histogram, x, y in zip(self.found[key], drawn, made, strict=True):
                histogram.update(x, y)

    def information(self) -> dict[str, Floats]:
        """Linear.key -> (groups, K, M) nats."""
        return {key: np.stack([h.mutual_information() for h in found]) for key, found in self.found.items()}


class SourceGauge:
    """Moments of one source, and where asked for, means by class and histograms."""

    def __init__(
        self,
        source: Source,
        drawer: Drawer,
        sets: int,
        wanted: int,
        labelled: bool,
        histograms: Histograms | None,
        *,
        spatial: bool,
    ) -> None:
        """`wanted` is the number of rows; histograms are those of the first set; spatial: some samples are enough."""
        self.source, self.taps, self.spatial = source, source.taps, spatial
        self.moments: list[Moments] = []
        self.classes: list[ClassMeans | None] = [None] * sets
        self.histograms = histograms
        self._drawer, self._wanted, self._labelled = drawer, wanted, labelled
        self._sums = [MomentAccumulator(CHUNK) for _ in range(sets)]
        linear = source.linear
        self.bytes = linear.groups * linear.features * (8 * linear.features * (sets + 2) + 4 * CHUNK * (sets + 2))

    def absorb(self, number: int, values: Mapping[str, Array], batch: Batch) -> None:
        """Take in one batch of the set of that number."""
        linear = self.source.linear
        for tap in dict.fromkeys(self.taps):
            activation = values[tap]
            places = self._drawer.draw(linear, activation, batch, self.source.mask, self._wanted, len(set(self.taps)))
            rows = feature_rows(linear, activation, places)
            with _finite(linear.nodes[0].label):
                self._sums[number].update(rows)
            if self._labelled:
                self._classify(number, rows, places // max(row_count(linear, activation) // batch.fed, 1), batch)
            if self.histograms is not None and number == 0:
                self.histograms.count(rows)

    def finish(self, spill: bool) -> None:
        """Settle the moments."""
        with _finite(self.source.linear.nodes[0].label):
            moments = [sums.moments() for sums in self._sums]
        self.moments = [spilled(one) for one in moments] if spill else moments
        self._sums = []

    def _classify(self, number: int, rows: Array, samples: Places, batch: Batch) -> None:
        labels = batch.labels
        if labels is None or labels.max(initial=0) >= CLASSES or samples.max(initial=0) >= batch.count:
            return
        fresh, so_far = ClassMeans.of(rows, labels[samples]), self.classes[number]
        self.classes[number] = fresh if so_far is None else so_far.merge(fresh)


class ScoreGauge:
    """Moments of the shares that dimensions of queries and keys have in the attention scores."""

    spatial = False

    def __init__(self, product: ScoreProduct, sets: int) -> None:
        """Start with no rows."""
        self.product, self.taps = product, product.taps
        self.moments: list[Moments | None] = [None] * sets
        self.bytes = 8 * max(product.group.size, 1) * product.term.size**2 * sets

    def absorb(self, number: int, values: Mapping[str, Array], batch: Batch) -> None:
        """Take in one batch of the set of that number."""
        with _finite(self.product.node.label):
            fresh = self.product.measure(values[self.taps[0]], values[self.taps[1]], batch)
        so_far = self.moments[number]
        self.moments[number] = fresh if so_far is None else so_far.merge(fresh)

    def finish(self, spill: bool) -> None:
        """Nothing is left to do: the sums are small."""


@contextmanager
def _finite(reader: str) -> Iterator[None]:
    """Say of what the model computes, and not of this program, that it is not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise ModelError(f"what {reader} reads cannot be measured on these samples: {error}") from error


Gauge = SourceGauge | ScoreGauge
