"""Row weights: how much the outputs mind an error at each row of an operator's results, beside the mean row.

A refit cannot make every row right. It should be right where the outputs feel it: at the few positions of an image that
hold an object, not at the many that hold none. To first order an error e of one row moves the outputs by J e. For the
gradient g of the outputs' product with random signs, the mean of ``|g|^2`` is the squared norm of J (Hutchinson 1990).
Least squares weighted by it are what is left of the Gauss-Newton metric where every column of the results is solved by
itself, so that directions do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnxmi.data.calibration import BatchFeeds
from onnxmi.data.draws import chances
from onnxmi.errors import stage
from onnxmi.graph.linear import Linear
from onnxmi.operators.vjp import NoGradientError
from onnxmi.statistics.output_sensitivity import OutputGradients, drawn_samples
from onnxmi.statistics.row_sampling import Batch
from onnxmi.statistics.way_back import Gradients, WayBack
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import Floats, Samples

SHARE = 0.75  # of a weight that is the gradient's: the rest counts all rows alike, for errors that no first order sees
HEAVIEST = 30.0  # mean rows: a gradient is one draw of signs, and no row should outweigh all others by luck
MOST_BYTES = 2**27  # of all weights
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


class RowSquares:
    """Squared norms of gradients, row by row, of as many samples as there is room for.

    Parameters
    ----------
    analysis : Analysis
        The model.
    seed : int
        Of the draw of samples where there is no room for all.
    """

    def __init__(self, analysis: Analysis, seed: int) -> None:
        self.complete = False  # once all samples have been added
        self._linears = [one for one in analysis.linears if len(one.nodes) == 1 and one.obstacle is None]
        self._seed, self._share = seed, 1.0
        self._squares: dict[str, dict[int, Squares]] = {}

    def add(self, gradients: OutputGradients, found: Gradients, samples: int) -> None:
        """Take in a batch of so many samples that are gone through in all. Raises NoGradientError."""
        batch, added = found.batch, 0
        wanted = chances(batch.prints, self._seed ^ _SALT) < self._share
        for linear in self._linears:
            for rows in gradients.of_products(linear, found.values, found.by_result):
                norms = np.square(rows, dtype=np.float64).sum((0, 2))
                # Rows that belong to no sample cannot be told apart by it.
                if len(norms) % batch.fed == 0:
                    by_sample = norms.reshape(batch.fed, -1)[: batch.count].astype(np.float32)
                    own = zip(batch.prints.tolist(), by_sample, wanted, strict=True)
                    self._squares.setdefault(linear.key, {}).update(
                        (print_, row) for print_, row, taken in own if taken
                    )
                    added += by_sample.nbytes
        # The first batch tells how many rows a sample has, and so of how many samples there is room for.
        self._share = min(self._share, MOST_BYTES * batch.count / max(added * samples, 1))

    def add_all(self, way: WayBack, batches: Iterable[Batch], samples: int) -> None:
        """Go back on batches and take them in; see `add`."""
        for found in way.through(batches):
            self.add(way.gradients, found, samples)

    def weights(self) -> RowWeights:
        """Return the weights that follow from them."""
        return RowWeights({key: weights for key, own in self._squares.items() if (weights := _relative(own))})


@stage("row weights")
def measure_row_weights(
    way: WayBack, fit: Samples, validation: Samples, batches: Sequence[Batch], squares: RowSquares | None = None
) -> RowWeights:
    """Go back from the outputs once on each of some samples.

    Parameters
    ----------
    way : WayBack
        To all operators.
    fit, validation : (n,) int64
        Samples of whose rows some are drawn.
    batches : sequence of Batch
        As the rows will be drawn from. Where samples are padded, a sample has as many rows as its batch is long.
    squares : RowSquares, optional
        Of those fit samples that are drawn here, where they are known already.

    Returns
    -------
    RowWeights
        Without operators whose gradient is not known, that are used at several places, or that no output minds.
    """
    if not way.gradients.results:
        return RowWeights()
    graph, seed = way.analysis.model.graph, way.options.seed
    drawn = drawn_samples(graph, way.calibration, fit, seed)
    share = len(drawn) / max(len(fit), 1)
    judged = validation[chances(way.calibration.fingerprints[validation], seed ^ _SALT) < share]
    apart = way.calibration.padding is None and way.calibration.step is None
    try:
        if squares is None or not squares.complete or not apart:
            squares = RowSquares(way.analysis, seed)
            ways = way.batches(drawn) if apart else _parts(way, batches, drawn)
            squares.add_all(way, ways, len(drawn))
        squares.add_all(way, way.batches(judged) if apart else _parts(way, batches, judged), len(drawn))
    except NoGradientError:  # an operator turned out to do what its rule does not know
        return RowWeights()
    return squares.weights()


def _parts(way: WayBack, batches: Sequence[Batch], drawn: Samples) -> Iterator[Batch]:
    """Divide what is drawn of some batches into smaller ones that the memory takes, as long as these."""
    size = way.batch_size(drawn) if len(drawn) else 1
    for batch in batches:
        feeds = batch.feeds
        assert isinstance(feeds, BatchFeeds)
        wanted = feeds.samples[: batch.count][np.isin(feeds.samples[: batch.count], drawn)]
        if way.calibration.step is not None and len(wanted):
            yield batch
            continue
        for start in range(0, len(wanted), size):
            chosen = wanted[start : start + size]
            yield Batch.of(way.calibration, chosen, BatchFeeds(way.calibration, chosen, feeds.longest))


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
