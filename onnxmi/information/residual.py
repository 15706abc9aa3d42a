"""What the unrepaired cut misses of a linear consumer's results: its moments beside those of the features that stay.

A repair predicts what is missing, so a regression needs nothing else: of S features that stay and M results, the
moments of S features and their covariance with M, not those of all features or of S + M.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from onnxmi.information.moments import Moments
from onnxmi.typing import Floats, Ints


@dataclass(frozen=True, eq=False)
class Missing:
    """Features that stay, x, beside what the unrepaired cut misses of the results, y.

    Attributes
    ----------
    count : number of rows.
    mean_x, mean_y : (S,) and (M,).
    gram : (S, S) covariance of x.
    cross : (S, M) covariance of x with y.
    variance : sum of the variances of y.
    """

    count: int
    mean_x: Floats
    mean_y: Floats
    gram: Floats
    cross: Floats
    variance: float

    @classmethod
    def of_cut(cls, moments: Moments, kept: ArrayLike, weights: Floats) -> Missing:
        """For ``Y = X W`` on the kept features of X: what the other features gave.

        Parameters
        ----------
        moments : of X (K features, no group axes), at least one row.
        kept : (S,) features that stay.
        weights : (K, M) W.

        Raises
        ------
        ValueError : shapes that do not fit, or no rows.
        """
        chosen = checked(moments, kept, weights)
        cut = np.setdiff1d(np.arange(moments.features), chosen)
        # Only the cut features are missed: what the kept ones give is there already.
        rest = np.asarray(weights[cut], dtype=np.float64)
        tied = moments.scatter[:, cut] @ rest / moments.count
        return cls(
            moments.count,
            moments.mean[chosen],
            moments.mean[cut] @ rest,
            moments.scatter[np.ix_(chosen, chosen)] / moments.count,
            tied[chosen],
            # A quadratic form of a covariance, which rounding can push below 0.
            max(float((rest * tied[cut]).sum()), 0.0),
        )

    @classmethod
    def of_joint(cls, moments: Moments, features: int) -> Missing:
        """From the moments of x and y side by side: the first ``features`` are x. Raises ValueError without rows."""
        _require_rows(moments)
        scatter, mean = moments.scatter, moments.mean
        return cls(
            moments.count,
            mean[:features],
            mean[features:],
            scatter[:features, :features] / moments.count,
            scatter[:features, features:] / moments.count,
            float(np.diagonal(scatter)[features:].sum()) / moments.count,
        )

    def through_origin(self) -> Missing:
        """Return the same about zero instead of about the means: a regression on it has no offset."""
        return Missing(
            self.count,
            np.zeros_like(self.mean_x),
            np.zeros_like(self.mean_y),
            self.gram + self.mean_x[:, None] * self.mean_x,
            self.cross + self.mean_x[:, None] * self.mean_y,
            self.variance + float(self.mean_y @ self.mean_y),
        )

    @classmethod
    def merged(cls, parts: Sequence[Missing]) -> Missing:
        """What is missing on the rows of all parts, at least one. Parts of equal shapes only."""
        if len(parts) == 1:
            return parts[0]
        count = sum(part.count for part in parts)
        shares = [part.count / count for part in parts]
        mean_x = _weighted(shares, [part.mean_x for part in parts])
        mean_y = _weighted(shares, [part.mean_y for part in parts])
        # Law of total covariance: covariances within the parts, and those of the parts' means.
        off_x, off_y = [part.mean_x - mean_x for part in parts], [part.mean_y - mean_y for part in parts]
        between = sum(share * float(off @ off) for share, off in zip(shares, off_y, strict=True))
        return cls(
            count,
            mean_x,
            mean_y,
            _weighted(shares, [p.gram + x[:, None] * x for p, x in zip(parts, off_x, strict=True)]),
            _weighted(shares, [p.cross + x[:, None] * y for p, x, y in zip(parts, off_x, off_y, strict=True)]),
            sum(share * part.variance for share, part in zip(shares, parts, strict=True)) + between,
        )

    def error(self, change: Floats, shift: Floats) -> float:
        """``E ||y - x A - b||**2``, summed over results, of A (S, M) and b (M,).

        Relative to the variance of y it is right to some 1e-15, by which an error that is 0 may seem to be more.
        """
        # Expanded, so that no row is needed: var(y) - 2 cov(y, xA) + var(xA).
        spread = self.variance - float((change * (2.0 * self.cross - self.gram @ change)).sum())
        offset = self.mean_y - self.mean_x @ change - shift
        return max(spread, 0.0) + float(offset @ offset)

    def total_variance(self, plain: Floats) -> float:
        """Sum of the variances of ``x P + y``, the results as they should be, for the unrepaired cut P (S, M)."""
        return max(self.variance + float((plain * (2.0 * self.cross + self.gram @ plain)).sum()), 0.0)


def _weighted(shares: Sequence[float], values: Sequence[Floats]) -> Floats:
    """Mean of arrays of one shape by their shares."""
    return np.asarray(sum(share * value for share, value in zip(shares, values, strict=True)))


def checked(moments: Moments, kept: ArrayLike, weights: Floats) -> Ints:
    """Return ``kept`` as indices; raises ValueError unless they, the weights and the moments fit together."""
    chosen = np.asarray(kept, dtype=np.int64)
    _require_rows(moments)
    if chosen.ndim != 1 or weights.ndim != 2 or weights.shape[0] != moments.features:
        raise ValueError(f"{moments.features} features and weights {weights.shape} do not fit")
    if np.unique(chosen).size != chosen.size or not set(chosen.tolist()) <= set(range(moments.features)):
        raise ValueError(f"kept must be distinct features below {moments.features}")
    return chosen


def _require_rows(moments: Moments) -> None:
    if moments.mean.ndim != 1 or moments.count == 0:
        raise ValueError(f"moments {moments.mean.shape} of {moments.count} rows: expected (K,) and a row or more")
