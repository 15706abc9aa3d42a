"""The pairwise score, as the paper's abstract reads literally: information of each unit with each neuron, summed.

With the Gaussian estimator it needs moments alone. With the binned one, joint histograms are counted beside them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxmi.graph.linear import weights_of
from onnxmi.information import JointHistogram, Selection, pairwise, pairwise_gaussian, quantile_edges
from onnxmi.model import Model
from onnxmi.selection.scorer import Candidates, Scorer
from onnxmi.selection.targets import Target
from onnxmi.statistics.row_sampling import Batch
from onnxmi.statistics.shared_inputs import LinearInput
from onnxmi.typing import Array, Floats, Ints

HISTOGRAM_ROWS = 8_192
N_BINS = 8


def _gaussian_scores(target: Target, n_units: int) -> Floats:
    cross = target.covariance @ target.weights
    spread = np.einsum("km,km->m", target.weights, cross)
    information = pairwise_gaussian(target.covariance, cross, spread)
    return pairwise(information, target.units, n_units)


def select_by_gaussian(candidates: Candidates) -> Selection:
    """Sum over kept upper neurons of I(x_i; y_j), each pair Gaussian."""
    return candidates.best_in_sum(lambda target: _gaussian_scores(target, candidates.units))


def select_by_bins(candidates: Candidates) -> Selection:
    """Sum over kept upper neurons of I(x_i; y_j), from quantile histograms; Gaussian where nothing was counted.

    Attention scores are made pair by pair and never seen as rows, and labels are no column of the weights.
    """

    def score(target: Target) -> Floats:
        if target.measured is None:
            return _gaussian_scores(target, candidates.units)
        return pairwise(target.measured, target.units, candidates.units)

    return candidates.best_in_sum(score)


class HistogramMeasure:
    """Joint histograms of an input's features with the outputs of each of its readers, on a share of the rows."""

    def __init__(self, model: Model, source: LinearInput, n_rows: int) -> None:
        """`n_rows` is the number of rows that moments are taken of."""
        self._weights = {linear.key: weights_of(model, linear) for linear in source.linears}
        self._step = max(1, n_rows // HISTOGRAM_ROWS)
        self._histograms: dict[str, list[JointHistogram]] = {}

    def update(self, number: int, rows: Array, samples: Ints, batch: Batch) -> None:
        """Take in rows (groups, N, K) of the first set; the first ones set the bins' edges."""
        if number != 0:
            return
        drawn = rows[:, :: self._step]
        for key, weights in self._weights.items():
            results = np.matmul(drawn, weights.astype(drawn.dtype))
            if key not in self._histograms:
                pairs = zip(drawn, results, strict=True)
                self._histograms[key] = [
                    JointHistogram(quantile_edges(x, N_BINS), quantile_edges(y, N_BINS)) for x, y in pairs
                ]
            for histogram, x, y in zip(self._histograms[key], drawn, results, strict=True):
                histogram.update(x, y)

    def result(self) -> Mapping[str, Floats]:
        """Linear.key -> (groups, K, M) nats."""
        return {
            key: np.stack([one.mutual_information() for one in histograms])
            for key, histograms in self._histograms.items()
        }


PAIRWISE_GAUSSIAN = Scorer(select_by_gaussian)
PAIRWISE_BINNED = Scorer(select_by_bins, measure=HistogramMeasure)
