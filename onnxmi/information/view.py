"""What a selector is told (`View`), what it is allowed (`Allowance`) and what it answers (`Selection`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.typing import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class View:
    """One linear consumer, ``Y = X @ weights``, of the layer being scored.

    Attributes
    ----------
    covariance : (K, K) of the consumer's input features X.
    weights : (K, M).
    units : (K,) the unit of the layer that owns each feature: a convolution's channel owns its kernel's patch, a
        flattened channel its pixels. -1 for a feature of another layer, always present.
    weight : factor of this view's nats in a sum over views, 0 or more.
    """

    covariance: Floats
    weights: Floats
    units: Ints
    weight: float = 1.0

    def __post_init__(self) -> None:
        features = self.covariance.shape[0]
        if self.covariance.shape != (features, features) or self.weights.ndim != 2:
            raise ValueError(f"covariance {self.covariance.shape}, weights {self.weights.shape}: expected two axes")
        if self.weights.shape[0] != features or self.units.shape != (features,):
            raise ValueError(f"{features} features, weights {self.weights.shape}, units {self.units.shape} do not fit")
        if self.weight < 0.0:
            raise ValueError("the weight of a view must be 0 or more")
        if not (np.isfinite(self.covariance).all() and np.isfinite(self.weights).all()):
            raise ValueError("covariance and weights must be finite")


@dataclass(frozen=True, eq=False)
class Selection:
    """Units chosen, best first.

    Attributes
    ----------
    kept : (keep,) the units in ascending order.
    order : (keep,) the units in the order they were chosen.
    gains : (keep,) what each added when it was chosen: nats for `joint`, the score for `top`.
    """

    kept: Ints
    order: Ints
    gains: Floats

    @classmethod
    def of(cls, order: list[int], gains: list[float]) -> Selection:
        """Make a selection from the units and gains in order of choice."""
        chosen = np.asarray(order, dtype=np.int64)
        return cls(np.sort(chosen), chosen, np.asarray(gains, dtype=np.float64))

    @property
    def curve(self) -> Floats:
        """(keep,) the sum of the gains of the first 1, 2, ... units."""
        return np.cumsum(self.gains)


class Allowance:
    """The units that may still be chosen: any, or exactly ``quota`` of each part (a partition matroid)."""

    def __init__(self, n_units: int, keep: int, parts: Ints | None = None, quota: int | None = None) -> None:
        """Open all units. Raises ValueError if the demands contradict each other."""
        if not 0 <= keep <= n_units:
            raise ValueError(f"cannot keep {keep} of {n_units} units")
        if (parts is None) != (quota is None):
            raise ValueError("parts and quota go together")
        if parts is not None and quota is not None:
            _check_parts(parts, quota, n_units, keep)
        self.open: Bools = np.full(n_units, keep > 0 and quota != 0)
        self._parts = np.zeros(n_units, dtype=np.int64) if parts is None else parts
        self._left = dict.fromkeys(np.unique(self._parts).tolist(), keep if quota is None else quota)

    def take(self, unit: int) -> None:
        """Mark ``unit`` as chosen, and close its part if that fills it."""
        part = int(self._parts[unit])
        # A partition matroid: where gains are submodular, greedy choices reach half of the best (Fisher et al. 1978).
        self._left[part] -= 1
        self.open[unit] = False
        if self._left[part] == 0:
            self.open[self._parts == part] = False

    def first(self) -> int:
        """Find the open unit of lowest index."""
        return int(np.argmax(self.open))


def _check_parts(parts: Ints, quota: int, n_units: int, keep: int) -> None:
    if parts.shape != (n_units,):
        raise ValueError(f"parts has shape {parts.shape}, expected {(n_units,)}")
    _, sizes = np.unique(parts, return_counts=True)
    if quota < 0 or (sizes < quota).any():
        raise ValueError(f"quota {quota} does not fit parts of {sizes.min()} units and more")
    if keep != quota * sizes.size:
        raise ValueError(f"keep is {keep}, but {sizes.size} parts of {quota} make {quota * sizes.size}")
