"""What a cut is going to lose, foretold from what is known before it is made and put right by what was made so far.

The damage curves say how the damage grows as less of a cost stays, but not its level: layers that are cut together
disturb each other, and the full repair leaves less than the curves are of. The level changes slowly, so one model that
was tried tells it, and two that are far apart tell how it changes. What is measured is noisy: of two models that are
close to each other the one that is smaller may be better by chance, and says nothing on the slope.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxmi.budget.allocate import frontier
from onnxmi.budget.goals import Kind
from onnxmi.pruning.sizing import SizingProblem

Curve = Callable[[float], float]
"""Logarithm of the share of a cost -> logarithm of a loss; it falls."""

STEEPNESS = 0.3  # of the loss beside what is foretold, so that no part of a curve is flat
SLOPES = (0.4, 2.5)  # of what is measured against what is foretold, both as logarithms
NOISE = 0.15  # standard deviation of what is measured about a smooth curve, as a logarithm
SLOPE_SPREAD = 0.6  # standard deviation of the slope about 1, before anything is measured
HALVINGS = 30  # of the interval in which a share is looked for
LEAST_DAMAGE, LEAST_SHARE = 1e-9, 1e-9


def foretold_damage(problem: SizingProblem, kind: Kind) -> Curve:
    """Return the sum of the layers' damage at the sizes that a share of a cost allows."""
    whole = problem.source[kind]
    points = frontier(problem.size_options, problem.costs[kind], whole)
    places = np.log([max(cost / whole, LEAST_SHARE) for cost, _ in points])
    # A smaller model is never foretold to be better: sizes are coarse.
    damage = np.maximum.accumulate([damage for _, damage in points][::-1])[::-1]
    values = np.log(np.maximum(damage, LEAST_DAMAGE))
    return lambda place: float(np.interp(place, places, values)) - STEEPNESS * place


class Forecast:
    """A foretold curve, moved and tilted to what was measured.

    Parameters
    ----------
    foretold : callable
        The curve that is known.
    level : float
        What is added to it as long as nothing was measured.
    """

    def __init__(self, foretold: Curve, level: float) -> None:
        self._foretold, self._level = foretold, level
        self._measured: list[tuple[float, float]] = []

    def measured(self, place: float, value: float) -> None:
        """Take in what was measured at a place, both as logarithms."""
        self._measured.append((self._foretold(place), value))

    def __call__(self, place: float) -> float:
        """Foretell the logarithm of the loss at a place."""
        own = self._foretold(place)
        if not self._measured:
            return own + self._level
        near = sorted(self._measured, key=lambda one: abs(one[0] - own))[:2]
        (first, value), (second, other) = near[0], near[-1]
        apart = first - second
        # Two that are close to each other say little on the slope, and are averaged instead.
        sure = (SLOPE_SPREAD * apart) ** 2 / ((SLOPE_SPREAD * apart) ** 2 + 2 * NOISE**2)
        slope = 1.0 + sure * ((value - other) / apart - 1.0) if apart else 1.0
        slope = min(max(slope, SLOPES[0]), SLOPES[1])
        level = (value + (1 - sure) * (other + slope * apart)) / (2 - sure)
        return level + slope * (own - first)

    def place_of(self, value: float, least: float, largest: float) -> float:
        """Return the smallest place in an interval at which the forecast is no more than a value; else its end."""
        for _ in range(HALVINGS):
            middle = (least + largest) / 2
            least, largest = (least, middle) if self(middle) <= value else (middle, largest)
        return largest
