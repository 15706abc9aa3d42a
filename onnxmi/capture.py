"""Capture: run the model over the calibration samples and reduce what every linear operator reads to moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.calibration import Calibration
from onnxmi.dims.channel_graph import Axes, ChannelGraph
from onnxmi.information import JointHistogram, MomentAccumulator, Moments, quantile_edges
from onnxmi.linear import Linear, feature_rows, row_count, weight_matrix
from onnxmi.model import Model
from onnxmi.runtime import open_session

Samples = NDArray[np.int64]
Progress = Callable[[str, int, int], None]

ROWS = 16_384  # rows that a layer's moments are drawn from, at least; wide layers get ROWS_PER_FEATURE a feature
ROWS_PER_FEATURE = 12
HISTOGRAM_ROWS = 8_192
BINS = 8


def silent(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class Statistics:
    """What was measured, by `Linear.key`.

    Attributes
    ----------
    moments : mapping
        Moments of each linear operator's input features.
    samples : int
        How many samples they come from.
    binned : mapping
        (groups, K, M) mutual information of each input feature with each output from quantile histograms, in nats;
        empty unless asked for.
    """

    moments: Mapping[str, Moments]
    samples: int
    binned: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class CaptureOptions:
    """How to run.

    Attributes
    ----------
    batch_size : int
        Samples a run.
    threads : int
        Intra-operator threads; 0 lets onnxruntime choose.
    seed : int
        Of the positions that are drawn from long sequences and large images.
    binned : bool
        Also count the joint histograms of every input feature with every output.
    """

    batch_size: int = 32
    threads: int = 0
    seed: int = 0
    binned: bool = False


def capture(
    model: Model,
    graph: ChannelGraph,
    linears: Sequence[Linear],
    calibration: Calibration,
    samples: Samples,
    options: CaptureOptions,
    progress: Progress = silent,
) -> Statistics:
    """Measure what linear operators read.

    Parameters
    ----------
    model, graph : Model, ChannelGraph
        The model that the linears were found in.
    linears : sequence of Linear
        What to measure.
    calibration : Calibration
        Sample inputs.
    samples : (n,) int64
        Which samples to use.

    Returns
    -------
    Statistics
        The memory needed does not depend on the number of samples.
    """
    session = open_session(model.proto, taps=taps(linears), threads=options.threads)
    masks = padding_masks(model, graph, linears)
    gauges = [_Gauge(model, linear, masks.get(linear.key), len(samples), options) for linear in linears]
    done = 0
    for chosen, feeds in calibration.batches(samples, options.batch_size):
        batch = Batch.of(calibration, chosen, feeds)
        values = session.run(feeds) if linears else {}
        for gauge in gauges:
            for tap in gauge.linear.taps:
                gauge.absorb(values[tap], batch)
        done += len(chosen)
        progress("capture", done, len(samples))
    return Statistics(
        moments={gauge.linear.key: gauge.moments.moments() for gauge in gauges},
        samples=len(samples),
        binned={gauge.linear.key: gauge.information() for gauge in gauges if options.binned},
    )


def taps(linears: Sequence[Linear]) -> list[str]:
    """Return the activations that linear operators read, each once."""
    return list(dict.fromkeys(tap for linear in linears for tap in linear.taps))


def rows_wanted(linear: Linear) -> int:
    """Return how many rows a linear operator's moments are drawn from."""
    return max(ROWS, ROWS_PER_FEATURE * linear.features)


@dataclass(frozen=True)
class Batch:
    """What a drawer of rows needs to know of one batch: its inputs, how many samples count, and how many were fed."""

    feeds: Mapping[str, NDArray[Any]]
    count: int
    fed: int

    @staticmethod
    def of(calibration: Calibration, chosen: Samples, feeds: Mapping[str, NDArray[Any]]) -> Batch:
        """Describe a batch that `Calibration.batches` yielded."""
        fed = next(int(array.shape[0]) for name, array in feeds.items() if name not in calibration.whole)
        return Batch(feeds, len(chosen), fed)


def draw_rows(
    linear: Linear, activation: NDArray[Any], batch: Batch, total: int, mask: str | None, rng: np.random.Generator
) -> Samples:
    """Draw rows of one batch evenly, without padding.

    Parameters
    ----------
    total : int
        Number of samples in all batches together: each batch gives its share of `rows_wanted`.
    mask : str or None
        Graph input that is zero at padding, if the operator's positions are its positions.

    Returns
    -------
    (rows,) int64
        Sorted places for `onnxmi.linear.feature_rows`.
    """
    rows = row_count(linear, activation)
    counted = np.arange(rows if rows % batch.fed else rows // batch.fed * batch.count)
    if mask is not None and batch.feeds[mask].size == rows:
        counted = np.flatnonzero(batch.feeds[mask].reshape(-1)[: counted.size] != 0)
    share = -(-rows_wanted(linear) * batch.count // (total * len(linear.nodes)))
    return counted if counted.size <= share else np.sort(rng.permutation(counted)[:share])


def padding_masks(model: Model, graph: ChannelGraph, linears: Sequence[Linear]) -> dict[str, str]:
    """Linear key -> the attention mask over just its positions, where the model has such an input.

    Positions are matched by the probe's sizes: those are distinct primes on dynamic axes, and exporters compute with
    the mask's axes in ways that leave no tie between them and the tokens'.
    """
    masks = {
        _positions(graph.axes[info.name]): info.name
        for info in model.graph.inputs
        if "mask" in info.name.lower() and info.name in graph.axes
    }
    leading = {linear.key: _positions(graph.axes[linear.taps[0]][:-1]) for linear in linears if not linear.kernel}
    return {key: masks[positions] for key, positions in leading.items() if positions in masks}


def _positions(axes: Axes) -> int:
    return prod(term.size for term in axes)


class _Gauge:
    """Accumulates one linear operator's statistics."""

    def __init__(self, model: Model, linear: Linear, mask: str | None, total: int, options: CaptureOptions) -> None:
        self.linear = linear
        self.moments = MomentAccumulator()
        self._mask, self._total = mask, total
        self._rng = np.random.default_rng(options.seed)
        self._histograms: list[JointHistogram] = []
        self._weights = weight_matrix(linear, model.graph.constant(linear.weight_name)) if options.binned else None

    def absorb(self, activation: NDArray[np.float32], batch: Batch) -> None:
        """Take in one batch."""
        places = draw_rows(self.linear, activation, batch, self._total, self._mask, self._rng)
        rows = feature_rows(self.linear, activation, places)
        self.moments.update(rows)
        if self._weights is not None:
            self._count(rows, self._weights)

    def _count(self, rows: NDArray[np.float32], weights: NDArray[np.float64]) -> None:
        """Count histograms on a share of the rows; the first batch sets the bins' edges."""
        drawn = rows[:, :: max(1, ROWS // HISTOGRAM_ROWS)]
        made = np.matmul(drawn, weights.astype(drawn.dtype))
        if not self._histograms:
            pairs = zip(drawn, made, strict=True)
            self._histograms = [JointHistogram(quantile_edges(x, BINS), quantile_edges(y, BINS)) for x, y in pairs]
        for histogram, x, y in zip(self._histograms, drawn, made, strict=True):
            histogram.update(x, y)

    def information(self) -> NDArray[np.float64]:
        """Binned mutual information, (groups, K, M) nats."""
        return np.stack([histogram.mutual_information() for histogram in self._histograms])
