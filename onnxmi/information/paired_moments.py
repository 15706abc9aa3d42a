"""Least squares of one variable on one other, for many pairs at once: a scale and a shift for each channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.typing import Array, Floats


@dataclass(frozen=True, eq=False)
class PairMoments:
    """Moments of pairs (x, y), channel by channel.

    Attributes
    ----------
    count : rows.
    mean_x, mean_y : (C,).
    xx, xy, yy : (C,) centered sums of products.
    """

    count: int
    mean_x: Floats
    mean_y: Floats
    xx: Floats
    xy: Floats
    yy: Floats

    @staticmethod
    def of(x: Array, y: Array) -> PairMoments:
        """Measure rows x and y, both (N, C) with N of 1 or more."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        u, v = x - mean_x, y - mean_y
        return PairMoments(len(x), mean_x, mean_y, (u * u).sum(axis=0), (u * v).sum(axis=0), (v * v).sum(axis=0))

    def merge(self, other: PairMoments) -> PairMoments:
        """Moments of both sets of rows together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        share = self.count * other.count / count
        dx, dy = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        return PairMoments(
            count,
            self.mean_x + dx * (other.count / count),
            self.mean_y + dy * (other.count / count),
            self.xx + other.xx + share * dx * dx,
            self.xy + other.xy + share * dx * dy,
            self.yy + other.yy + share * dy * dy,
        )

    def fit(self, *, shifted: bool = True) -> tuple[Floats, Floats]:
        """Scale and shift (C,) that minimize ``E (y - scale x - shift)**2``; without a shift if not `shifted`.

        A channel that does not vary keeps scale 1.
        """
        xx, xy = self.xx, self.xy
        if not shifted:
            # Without a shift the line goes through the origin: moments about zero decide, not those about the means.
            xx, xy = xx + self.count * self.mean_x**2, xy + self.count * self.mean_x * self.mean_y
        # Below the rounding error of the squared mean a variance is noise, and its ratio could be anything.
        alive = xx > np.finfo(np.float64).eps * self.count * (self.mean_x**2 + 1e-30)
        scale = np.divide(xy, xx, out=np.ones_like(xx), where=alive)
        return scale, self.mean_y - scale * self.mean_x if shifted else np.zeros_like(scale)

    def error(self, scale: Floats, shift: Floats) -> float:
        """``E (y - scale x - shift)**2``, summed over the channels."""
        spread = self.yy - 2.0 * scale * self.xy + scale**2 * self.xx
        offset = self.mean_y - scale * self.mean_x - shift
        return float(np.maximum(spread, 0.0).sum() / self.count + (offset**2).sum())
