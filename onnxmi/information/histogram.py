"""Binned mutual information of every pair of features: quantile bins, counted by matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxmi.information.mutual_information import discrete
from onnxmi.typing import Array, Floats, Ints

_ROWS = 2048
"""Rows counted by one product: far below the 2**24 up to which float32 counts exactly."""

_CELLS = 1 << 24
"""Cells of one product (64 MiB of float32), which bounds the temporary."""


def quantile_edges(rows: Array, bins: int) -> Array:
    """Inner edges that cut each feature into ``bins`` bins of nearly equal count.

    An edge is an observed value and closes its bin: bin i holds ``edges[i - 1] < x <= edges[i]``. A value that fills
    more than a bin (the zeros of a ReLU, the 6 of a ReLU6) shows as equal edges; the first is moved to the next smaller
    float, so that the value gets a bin of its own and the bins between stay empty. A constant feature fills one bin.

    Parameters
    ----------
    rows : (N, K), N at least 1.
    bins : at least 2.

    Returns
    -------
    (K, bins - 1) ascending, float32 for float16 and float32 rows, else float64.

    Raises
    ------
    ValueError : fewer than two bins, no rows, or values that are not finite.
    """
    rows = np.asarray(rows)
    if bins < 2 or rows.ndim != 2 or rows.shape[0] == 0:
        raise ValueError(f"{bins} bins of rows of shape {rows.shape}: expected 2 bins or more and rows (N, K)")
    rows = rows.astype(np.float32 if rows.dtype in (np.float16, np.float32) else np.float64, copy=False)
    if not np.isfinite(rows).all():
        raise ValueError("rows hold values that are not finite")
    # Observed values and not interpolated ones: an edge between two values could split ties.
    edges = np.quantile(rows, np.arange(1, bins) / bins, axis=0, method="inverted_cdf").T
    tied = np.zeros(edges.shape, dtype=np.bool_)
    tied[:, :-1] = edges[:, :-1] == edges[:, 1:]
    return np.ascontiguousarray(np.where(tied, np.nextafter(edges, edges.dtype.type(-np.inf)), edges))


class JointHistogram:
    """Joint counts of every pair of a feature of x and a feature of y, on fixed edges."""

    def __init__(self, edges_x: Array, edges_y: Array) -> None:
        """``edges_x`` (K, bins_x - 1) and ``edges_y`` (M, bins_y - 1) as from `quantile_edges`."""
        self.edges_x, self.edges_y = edges_x, edges_y
        (features, cuts_x), (targets, cuts_y) = edges_x.shape, edges_y.shape
        self.counts: Ints = np.zeros((features, cuts_x + 1, targets, cuts_y + 1), dtype=np.int64)

    def update(self, x: Array, y: Array) -> None:
        """Count rows x (N, K) with rows y (N, M). Raises ValueError if the shapes do not fit."""
        if x.shape != (y.shape[0], self.edges_x.shape[0]) or y.shape != (x.shape[0], self.edges_y.shape[0]):
            raise ValueError(f"rows of shapes {x.shape} and {y.shape} do not fit counts of shape {self.counts.shape}")
        for start in range(0, x.shape[0], _ROWS):
            part = slice(start, start + _ROWS)
            self._count(_one_hot(x[part], self.edges_x), _one_hot(y[part], self.edges_y))

    def merge(self, other: JointHistogram) -> JointHistogram:
        """Add the counts of both in a new histogram. Raises ValueError unless the edges are equal."""
        same = np.array_equal(self.edges_x, other.edges_x) and np.array_equal(self.edges_y, other.edges_y)
        if not same:
            raise ValueError("cannot merge histograms of different edges")
        merged = JointHistogram(self.edges_x, self.edges_y)
        merged.counts += self.counts + other.counts
        return merged

    def mutual_information(self, *, correct: bool = True) -> Floats:
        """(K, M) nats of every pair, with the bias correction of Miller and Madow (see `discrete`).

        Binning can only lose information: it bounds the continuous one from below, up to the bias.
        """
        tables = (counts.transpose(1, 0, 2) for counts in self.counts)
        return np.stack([discrete(table, correct=correct) for table in tables])

    def _count(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        """Add the product of one-hot rows x (n, K, bins_x) and y (n, M, bins_y), a few features of x at a time."""
        flat = y.reshape(y.shape[0], -1)
        # One product of indicators counts all pairs at once; its size bounds the memory.
        step = max(1, _CELLS // max(1, x.shape[2] * flat.shape[1]))
        for start in range(0, x.shape[1], step):
            part = x[:, start : start + step]
            # Counts of a batch are exact in float32: they stay far below 2**24.
            product = part.reshape(part.shape[0], -1).T @ flat
            target = self.counts[start : start + step]
            target += product.reshape(target.shape).astype(np.int64)


def _one_hot(rows: Array, edges: Array) -> NDArray[np.float32]:
    """(n, K, bins) float32 indicators of the bin of each value: what is past one edge and not past the next."""
    # Padded by 'past the lowest edge' and 'not past the highest', so that each bin is a difference of neighbors.
    past = np.ones((*rows.shape, edges.shape[1] + 2), dtype=np.bool_)
    past[..., 1:-1] = rows[..., None] > edges
    past[..., -1] = False
    return np.asarray(past[..., :-1] & ~past[..., 1:], dtype=np.float32)
