"""Means of features by class: all that a linear prediction of the class needs beside the moments of all rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.information.cholesky import live
from onnxmi.information.moments import Moments
from onnxmi.typing import Array, Floats, Ints


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """Rows of K features by class.

    Attributes
    ----------
    count : (C,) number of rows of each class, the same in every group.
    sums : (C, ..., K) float64, the sum of each class's rows. Leading axes are groups.
    """

    count: Floats
    sums: Floats

    @classmethod
    def of(cls, rows: Array, labels: Ints) -> ClassMeans:
        """Sum rows (..., N, K) by their labels (N,); a negative label is none."""
        known = labels >= 0
        count = np.bincount(labels[known]).astype(np.float64)
        sums = np.zeros((count.size, *rows.shape[:-2], rows.shape[-1]))
        # `add.at` and not `+=`: several rows have the same label, and each of them has to count.
        np.add.at(sums, labels[known], np.moveaxis(rows[..., known, :], -2, 0).astype(np.float64))
        return cls(count, sums)

    def merge(self, other: ClassMeans) -> ClassMeans:
        """Sum of both; a class that one has not seen has no rows there. Raises ValueError if the features differ."""
        if self.sums.shape[1:] != other.sums.shape[1:]:
            raise ValueError(f"cannot merge class sums of shapes {self.sums.shape} and {other.sums.shape}")
        size = max(self.count.size, other.count.size)
        return ClassMeans(
            _grown(self.count, size) + _grown(other.count, size), _grown(self.sums, size) + _grown(other.sums, size)
        )

    def weights(self, moments: Moments, group: tuple[int, ...] = (), ridge: float = 1e-3) -> Floats:
        """Weights (K, C) of the ridge regression of the one-hot label on X: targets for a `View` scored on labels.

        ``X @ weights`` is the best linear prediction of the class indicators, so that the information about it is the
        part of I(X; label) that a linear layer can use. Where classes are Gaussian with one covariance (Fisher's
        model), no information about the label is lost in it.

        Parameters
        ----------
        moments : of all rows, labelled or not, with the same groups.
        group : which group.
        ridge : relative to each feature's variance; a constant feature gets 0.
        """
        own = moments.group(*group)
        scale = np.where(live(own.variance), 1.0 / np.sqrt(np.where(live(own.variance), own.variance, 1.0)), 0.0)
        sums = np.moveaxis(self.sums, 0, -2)[group]
        # Only rows with a label count here; the covariance below is of all rows, which estimates it better.
        total = max(float(self.count.sum()), 1.0)
        mean = sums.sum(axis=0) / total
        # Covariance of each feature with the indicator of each class.
        cross = (sums - self.count[:, None] * mean) / total
        # On correlations the ridge means the same for every feature, whatever its unit.
        correlation = own.covariance * np.outer(scale, scale) + ridge * np.eye(own.features)
        return np.asarray(np.linalg.solve(correlation, (cross * scale).T) * scale[:, None])


def _grown(array: Floats, size: int) -> Floats:
    padded = np.zeros((size, *array.shape[1:]))
    padded[: array.shape[0]] = array
    return padded
