"""Capture: run the model over the calibration samples and reduce what every linear operator reads to moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnxmi.calibration import Calibration
from onnxmi.information import JointHistogram, MomentAccumulator, Moments, quantile_edges
from onnxmi.linear import Linear, feature_rows, weight_matrix
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
    linears: Sequence[Linear],
    calibration: Calibration,
    samples: Samples,
    options: CaptureOptions,
    progress: Progress = silent,
) -> Statistics:
    """Measure what linear operators read.

    Parameters
    ----------
    model : Model
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
    session = open_session(model.proto, taps=_taps(linears), threads=options.threads)
    gauges = [_Gauge(model, linear, len(samples), options) for linear in linears]
    done = 0
    for chosen, feeds in calibration.batches(samples, options.batch_size):
        values = session.run(feeds) if linears else {}
        for gauge in gauges:
            for tap in gauge.linear.taps:
                gauge.absorb(values[tap], len(chosen), _fed(calibration, feeds))
        done += len(chosen)
        progress("capture", done, len(samples))
    return Statistics(
        moments={gauge.linear.key: gauge.moments.moments() for gauge in gauges},
        samples=len(samples),
        binned={gauge.linear.key: gauge.information() for gauge in gauges if options.binned},
    )


def _taps(linears: Sequence[Linear]) -> list[str]:
    return list(dict.fromkeys(tap for linear in linears for tap in linear.taps))


def _fed(calibration: Calibration, feeds: Mapping[str, NDArray[np.float32]]) -> int:
    """How many samples the inputs hold, padding included."""
    return next(int(array.shape[0]) for name, array in feeds.items() if name not in calibration.whole)


class _Gauge:
    """Accumulates one linear operator's statistics."""

    def __init__(self, model: Model, linear: Linear, samples: int, options: CaptureOptions) -> None:
        self.linear = linear
        self.moments = MomentAccumulator()
        rows = max(ROWS, ROWS_PER_FEATURE * linear.features)
        self._limit = -(-rows // (samples * len(linear.nodes)))
        self._rng = np.random.default_rng(options.seed)
        self._histograms: list[JointHistogram] = []
        self._weights = weight_matrix(linear, model.graph.constant(linear.weight_name)) if options.binned else None

    def absorb(self, activation: NDArray[np.float32], count: int, fed: int) -> None:
        """Take in one batch, of which the first `count` of `fed` samples count."""
        counted = activation[:count] if fed > count and activation.shape[0] == fed else activation
        rows = feature_rows(self.linear, counted, self._limit, self._rng)
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
