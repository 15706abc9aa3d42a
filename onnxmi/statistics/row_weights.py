"""Row weights: how much the outputs mind an error at each row of an operator's results, beside the mean row.

A refit cannot make every row right. It should be right where the outputs feel it: at the few positions of an image that
hold an object, not at the many that hold none. To first order an error e of one row moves the outputs by J e. For the
gradient g of the outputs' product with random signs, the mean of ``|g|^2`` is the squared norm of J (Hutchinson 1990).
Least squares weighted by it are what is left of the Gauss-Newton metric where every column of the results is solved by
itself, so that directions do not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnxmi.data.calibration import BatchFeeds, Calibration
from onnxmi.data.draws import chances
from onnxmi.errors import stage
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.graph.linear import Linear
from onnxmi.graph.padding_mask import mask_inputs
from onnxmi.operators.vjp import NoGradientError
from onnxmi.runtime.session import Session, open_session
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.output_sensitivity import OutputGradients, batch_size_within, has_gradient
from onnxmi.statistics.row_sampling import Batch
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import Floats, Samples

SHARE = 0.75  # of a weight that is the gradient's: the rest counts all rows alike, for errors that no first order sees
HEAVIEST = 30.0  # mean rows: a gradient is one draw of signs, and no row should outweigh all others by luck
MOST_SAMPLES, MOST_BYTES = 128, 2**27  # that weights are measured on: going back takes several times a forward pass
_SALT = 0x207  # the draw of samples is none of the other draws

Weights = NDArray[np.float16]
Squares = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RowWeights:
    """What each row of some operators' results counts; 1 on average.

    Attributes
    ----------
    by_operator : mapping of str to mapping of int to (rows,) float16
        Linear.key -> fingerprint of a sample -> weights of the sample's rows.
    """

    by_operator: Mapping[str, Mapping[int, Weights]] = field(default_factory=dict)

    def of(self, linear: Linear, batch: Batch, rows: int) -> Floats | None:
        """Weights of a batch's rows.

        Parameters
        ----------
        rows : int
            Of the activation, with those of samples that only fill the batch up.

        Returns
        -------
        (count * positions,) float64 or None
            Of the samples that count; 1 for those that none were measured of. None where all rows count alike.
        """
        known = self.by_operator.get(linear.key)
        if known is None or rows % batch.fed:
            return None
        mean_rows = np.ones(rows // batch.fed, dtype=np.float16)
        own = [known.get(int(fingerprint), mean_rows) for fingerprint in batch.prints]
        # A cut may take rows away, as in a mixer: then it is not known which are left.
        if any(len(weights) != len(mean_rows) for weights in own):
            return None
        return np.concatenate(own).astype(np.float64)


@stage("row weights")
def measure_row_weights(
    analysis: Analysis,
    calibration: Calibration,
    samples: Samples,
    batches: Sequence[Batch],
    yardstick: Yardstick,
    options: CaptureOptions,
) -> RowWeights:
    """Go back from the outputs once on each sample.

    Parameters
    ----------
    samples : (n,) int64
        All samples of the batches.
    batches : sequence of Batch
        As the rows will be drawn from: a sample has the same number of rows in both.
    yardstick : Yardstick
        What an error of the outputs counts.

    Returns
    -------
    RowWeights
        Without operators whose gradient is not known, that are used at several places, or that no output minds.
    """
    linears = [one for one in analysis.linears if len(one.nodes) == 1 and one.obstacle is None and has_gradient(one)]
    way = OutputGradients.of(
        analysis, linears, yardstick, tuple(mask_inputs(analysis.model, analysis.graph, options.mask))
    )
    linears = [linear for linear in linears if linear.key in way.results]
    if not linears or not len(samples):
        return RowWeights()
    session = open_session(analysis.model.proto, taps=way.taps, threads=options.threads)
    measured = _Squares(way, session, options.seed, linears)
    size = batch_size_within(session, calibration, samples, options.memory)
    try:
        # One sample tells how many rows there are, and so of how many samples weights can be held.
        measured.add(next(_parts(calibration, batches[0], 1, samples)))
        most = min(MOST_SAMPLES, MOST_BYTES // max(measured.bytes, 1))
        drawn = _drawn(calibration, samples, most, options.seed)
        for batch in (part for whole in batches for part in _parts(calibration, whole, size, drawn)):
            measured.add(batch)
    except NoGradientError:  # an operator turned out to do what its rule does not know
        return RowWeights()
    return RowWeights({key: weights for key, own in measured.squares.items() if (weights := _relative(own))})


def _drawn(calibration: Calibration, samples: Samples, most: int, seed: int) -> Samples:
    """Draw samples by content, about so many."""
    return samples[chances(calibration.fingerprints[samples], seed ^ _SALT) < most / len(samples)]


def _parts(calibration: Calibration, batch: Batch, size: int, drawn: Samples) -> Iterator[Batch]:
    """Divide what is drawn of a batch into smaller ones: a backward pass holds all inner tensors of its samples."""
    feeds = batch.feeds
    assert isinstance(feeds, BatchFeeds)
    wanted = feeds.samples[: batch.count][np.isin(feeds.samples[: batch.count], drawn)]
    if calibration.step is not None and len(wanted):
        yield batch
        return
    for start in range(0, len(wanted), size):
        chosen = wanted[start : start + size]
        # As long as in the whole batch: a sample has the same rows in both.
        yield Batch.of(calibration, chosen, BatchFeeds(calibration, chosen, feeds.longest))


class _Squares:
    """Squared norms of gradients, row by row."""

    def __init__(self, way: OutputGradients, session: Session, seed: int, linears: Sequence[Linear]) -> None:
        self.squares: dict[str, dict[int, Squares]] = {linear.key: {} for linear in linears}
        self.bytes = 0
        self._way, self._session, self._seed, self._linears = way, session, seed, linears

    def add(self, batch: Batch) -> None:
        """Go back through a batch. Raises NoGradientError."""
        values, gradients = self._way.gradients(self._session, batch, self._seed)
        for linear in self._linears:
            for rows in self._way.of_products(linear, values, gradients):
                norms = np.square(rows, dtype=np.float64).sum((0, 2))
                # Rows that belong to no sample cannot be told apart by it.
                if len(norms) % batch.fed == 0:
                    by_sample = norms.reshape(batch.fed, -1)[: batch.count].astype(np.float32)
                    self.squares[linear.key].update(zip(map(int, batch.prints), by_sample, strict=True))
                    self.bytes += by_sample.nbytes


def _relative(squares: Mapping[int, Squares]) -> dict[int, Weights] | None:
    """Turn squared gradients into weights with a mean of 1."""
    rows = sum(map(len, squares.values()))
    mean = sum(float(own.sum(dtype=np.float64)) for own in squares.values()) / max(rows, 1)
    if not np.isfinite(mean) or mean <= 0.0:
        return None
    clipped = {fingerprint: np.minimum(own / mean, HEAVIEST) for fingerprint, own in squares.items()}
    # Clipping takes from the mean; what it takes goes to all rows.
    left = 1.0 - SHARE * sum(float(own.sum(dtype=np.float64)) for own in clipped.values()) / rows
    return {fingerprint: (left + SHARE * own).astype(np.float16) for fingerprint, own in clipped.items()}
