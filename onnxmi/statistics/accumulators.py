"""Accumulators: each reduces activations, batch by batch, to sums, for several sets of samples apart."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from onnxmi.errors import ModelError
from onnxmi.graph.linear import feature_rows, row_count
from onnxmi.information import MomentAccumulator, Moments, NotFiniteError
from onnxmi.information.moments import chunk_rows
from onnxmi.statistics.attention_scores import ScoreProduct
from onnxmi.statistics.row_observers import Observers
from onnxmi.statistics.row_sampling import Batch, RowSampler
from onnxmi.statistics.shared_inputs import LinearInput
from onnxmi.typing import Array, Floats

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


class InputAccumulator:
    """Moments of one shared input, and whatever observers take of the same rows."""

    def __init__(
        self,
        source: LinearInput,
        sampler: RowSampler,
        sets: int,
        n_rows: int,
        observers: Observers,
        *,
        spatial: bool,
    ) -> None:
        """`n_rows` is the number of rows; spatial: some samples are enough."""
        self.source, self.taps, self.spatial = source, source.taps, spatial
        self.moments: list[Moments] = []
        self.observers = observers
        self._sampler, self._n_rows = sampler, n_rows
        self._sums = [MomentAccumulator(CHUNK) for _ in range(sets)]
        linear = source.linear
        # One sum and one chunk of rows for each set, and two of each in passing while a chunk is taken in.
        wide = linear.groups * linear.features
        self.bytes = wide * (8 * linear.features + 4 * chunk_rows(CHUNK, 4 * wide)) * (sets + 2)

    def update(self, number: int, values: Mapping[str, Array], batch: Batch) -> None:
        """Take in one batch of the set of that number."""
        linear = self.source.linear
        # One activation may be listed twice, by two nodes that share a weight; its rows count once.
        for tap in filter(values.__contains__, dict.fromkeys(self.taps)):  # a branch may not be taken
            activation = values[tap]
            count = row_count(linear, activation)
            row_indices = self._sampler.sample(count, batch, self.source.mask, self._n_rows, len(set(self.taps)))
            rows = feature_rows(linear, activation, row_indices)
            with _finite(linear.nodes[0].label):
                self._sums[number].update(rows)
            # Rows of a sample follow each other, so a quotient says which sample a row is of.
            samples = row_indices // max(count // batch.fed, 1)
            self.observers.update(number, rows, samples, batch)

    def finalize(self, *, spill: bool) -> None:
        """Turn the sums into moments."""
        linear = self.source.linear
        for sums in self._sums:
            if not sums.started:  # in a branch that no sample takes
                sums.update(np.zeros((linear.groups, 0, linear.features), np.float32))
        with _finite(linear.nodes[0].label):
            moments = [sums.moments() for sums in self._sums]
        # With several passes the sums of all of them do not fit into the memory that one pass may take.
        self.moments = [spilled(one) for one in moments] if spill else moments
        # Freed before the next accumulator is finished: the matrices are what fills the memory.
        self._sums = []


class ScoreAccumulator:
    """Moments of the shares that dimensions of queries and keys have in the attention scores."""

    spatial = False

    def __init__(self, product: ScoreProduct, sets: int) -> None:
        """Start with no rows."""
        self.product, self.taps = product, product.taps
        self.moments: list[Moments | None] = [None] * sets
        self.bytes = 8 * max(product.group.size, 1) * product.term.size**2 * sets

    def update(self, number: int, values: Mapping[str, Array], batch: Batch) -> None:
        """Take in one batch of the set of that number."""
        if not values.keys() >= set(self.taps):  # a branch that is not taken
            return
        with _finite(self.product.node.label):
            fresh = self.product.measure(values[self.taps[0]], values[self.taps[1]], batch)
        so_far = self.moments[number]
        self.moments[number] = fresh if so_far is None else so_far.merge(fresh)

    def finalize(self, *, spill: bool) -> None:
        """Nothing is left to do: the sums are small."""


@contextmanager
def _finite(reader: str) -> Iterator[None]:
    """Say of what the model computes, and not of this program, that it is not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise ModelError(f"the input of {reader} cannot be measured on these samples: {error}") from error


Accumulator = InputAccumulator | ScoreAccumulator
