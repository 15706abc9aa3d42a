"""Some rows of a scatter matrix: what is too large to be held is added up block by block, to the same bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.typing import Floats


@dataclass(frozen=True, eq=False)
class MomentRows:
    """Count and means of rows of K features in G groups, and some rows of the scatter.

    Attributes
    ----------
    count : number of rows, the same in every group.
    mean : (G, K) float64.
    scatter : (R, K) float64, rows ``start`` to ``start + R`` of the (G * K, K) that the scatter of all groups has.
    start : the first of them.
    """

    count: int
    mean: Floats
    scatter: Floats
    start: int

    def merge(self, other: MomentRows) -> MomentRows:
        """Do what `Moments.merge` does, operation by operation."""
        count = self.count + other.count
        if count == 0:
            return self
        share = other.count / count
        delta = other.mean - self.mean
        places = np.arange(self.start, self.start + len(self.scatter))
        of_group = delta[places // delta.shape[-1]]
        between = (self.count * share) * (delta.reshape(-1)[places, None] * of_group)
        return MomentRows(count, self.mean + share * delta, self.scatter + other.scatter + between, self.start)
