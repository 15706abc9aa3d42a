"""Which rows of an activation are measured: drawn by what the samples are, not by where they stand.

A row (a token, a position of an image) is taken if a hash of the seed, of its sample's content and of its place in the
sample falls below the share that is wanted. So the same rows are taken whatever the batches and the order of samples,
and a sample gives the same rows in whatever file it comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.calibration import GOLDEN, Calibration, chances, scramble
from onnxmi.dims.channel_graph import Axes, ChannelGraph
from onnxmi.dims.term import atoms
from onnxmi.errors import UsageError
from onnxmi.linear import Linear, row_count
from onnxmi.model import Model

Samples = NDArray[np.int64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """What a drawer of rows needs to know of one batch.

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

    feeds: Mapping[str, NDArray[Any]]
    count: int
    fed: int
    prints: NDArray[np.uint64]
    labels: NDArray[np.int64] | None = None
    _hashes: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(calibration: Calibration, chosen: Samples, feeds: Mapping[str, NDArray[Any]]) -> Batch:
        """Describe a batch that `Calibration.batches` yielded."""
        fed = next(int(array.shape[0]) for name, array in feeds.items() if name not in calibration.whole)
        labels = None if calibration.labels is None else calibration.labels[chosen]
        return Batch(feeds, len(chosen), fed, calibration.fingerprints[chosen], labels)

    def hashes(self, positions: int, seed: int) -> NDArray[np.float64]:
        """(count * positions,) numbers in [0, 1), one for each row of an activation with so many rows a sample."""
        if (positions, seed) not in self._hashes:
            steps = np.arange(1, positions + 1, dtype=np.uint64) * np.uint64(GOLDEN)
            self._hashes[positions, seed] = chances((scramble(self.prints)[:, None] + steps).reshape(-1), seed)
        return self._hashes[positions, seed]


@dataclass(frozen=True)
class Mask:
    """A graph input that is zero at padding; `transposed` where the rows run over its second axis first."""

    name: str
    transposed: bool = False

    def flat(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each row counts."""
        return np.asarray((array.T if self.transposed else array).reshape(-1) != 0)


class Drawer:
    """Draws rows from every batch of a set of samples.

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

    def draw(
        self, linear: Linear, activation: NDArray[Any], batch: Batch, mask: Mask | None, wanted: int, nodes: int = 1
    ) -> Places:
        """Draw rows of one batch, without padding.

        Parameters
        ----------
        mask : Mask or None
            The padding of the operator's positions.
        wanted : int
            Rows wanted of all samples together, in expectation; all are taken where there are no more.
        nodes : int
            How many activations they are drawn from.

        Returns
        -------
        (rows,) int64
            Sorted places for `onnxmi.linear.feature_rows`.
        """
        return self.places(row_count(linear, activation), batch, mask, wanted, nodes)

    def places(self, rows: int, batch: Batch, mask: Mask | None, wanted: float, nodes: int = 1) -> Places:
        """Draw as `draw` does from a tensor with so many rows in the batch."""
        by_sample = rows % batch.fed == 0
        counted = rows // batch.fed * batch.count if by_sample else rows
        total = rows / batch.fed * len(self._samples)
        taken = np.ones(counted, dtype=np.bool_)
        if mask is not None and batch.feeds[mask.name].size == rows:
            taken = mask.flat(batch.feeds[mask.name])[:counted]
            total = self._rows_without_padding(mask.name)
        share = wanted / max(total * nodes, 1)
        if share < 1:
            one = Batch(batch.feeds, 1, 1, batch.prints[:1])
            hashes = batch.hashes(rows // batch.fed, self.seed) if by_sample else one.hashes(rows, self.seed)
            taken = taken & (hashes < share)
        return np.flatnonzero(taken)

    def _rows_without_padding(self, mask: str) -> int:
        if mask not in self._unpadded:
            array = self._calibration.arrays[mask]
            own = array if mask in self._calibration.whole else array[self._samples]
            self._unpadded[mask] = int(np.count_nonzero(own))
        return self._unpadded[mask]


def padding_masks(
    model: Model, graph: ChannelGraph, linears: Sequence[Linear], name: str | None = None
) -> dict[str, Mask]:
    """Linear key -> the attention mask over just its positions, where the model has such an input.

    Positions are matched by the probe's sizes: those are distinct primes on dynamic axes, and exporters compute with
    the mask's axes in ways that leave no tie between them and the tokens'.

    Parameters
    ----------
    name : str, optional
        The input that is the mask; without it, inputs with "mask" in their name are.
    """
    masks = mask_inputs(model, graph, name)
    found: dict[str, Mask] = {}
    for linear in linears:
        leading = None if linear.kernel else sizes(graph.axes[linear.taps[0]][:-1])
        for mask, shape in masks.items():
            if leading is not None and prod(leading) == prod(shape):
                found[linear.key] = Mask(mask, transposed=len(shape) == 2 and leading == shape[::-1] != shape)
    return found


def mask_inputs(model: Model, graph: ChannelGraph, name: str | None = None) -> dict[str, tuple[int, ...]]:
    """Return the inputs that are padding masks, with the probe's sizes.

    Raises
    ------
    UsageError
        If the model has no input of that name.
    """
    inputs = [info.name for info in model.graph.inputs]
    if name is not None and name not in inputs:
        raise UsageError(f"the model has no input {name!r} to be the padding mask; it has {', '.join(inputs)}")
    wanted = [name] if name is not None else [i for i in inputs if "mask" in i.lower()]
    return {i: sizes(graph.axes[i]) for i in wanted if i in graph.axes}


def sizes(axes: Axes) -> tuple[int, ...]:
    """Sizes of the atoms of several axes, without those of size 1."""
    return tuple(atom.size for term in axes for atom in atoms(term) if atom.size != 1)
