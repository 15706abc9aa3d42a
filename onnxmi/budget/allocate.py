"""Allocation: how many units of each layer stay, so that a budget is met at the least damage.

Minimizes the sum of the layers' damage plus a multiplier times the cost, layer by layer until nothing changes, and
searches for the multiplier at which the budget is just met: a Lagrangian sweep. A knapsack's dynamic programme would
need costs that add up over layers, and those of neighboring convolutions multiply. What the sweep leaves over, because
it sees only the convex hull of the curves, is spent by single steps and exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxmi.graph.channel_graph import LayerId, UnitCounts
from onnxmi.graph.cost_model import CostModel
from onnxmi.typing import Floats, Ints

ROUNDS = 20  # of one descent, at most; it ends earlier where nothing changes
HALVINGS = 40  # of the multiplier's interval
FRONTIER = np.logspace(-7, 2, 28)  # multipliers at which a whole curve is looked at
WEIGHT_UPDATES = 12  # updates of the multipliers' shares where there are several limits


@dataclass(frozen=True, eq=False)
class SizeOptions:
    """The sizes a layer may have, ascending, the last its own, and the damage of each: (n,) both."""

    sizes: Ints
    damage: Floats


@dataclass(frozen=True, eq=False)
class Limit:
    """A cost and the most it may be."""

    cost: CostModel
    most: float

    def utilization(self, counts: Mapping[LayerId, int]) -> float:
        """Cost relative to the limit: above one, it is broken."""
        return self.cost.total(counts) / self.most


def allocate(size_options: Mapping[LayerId, SizeOptions], limits: Sequence[Limit]) -> UnitCounts | None:
    """Choose a size for each layer.

    Parameters
    ----------
    size_options : mapping
        Layer id -> its sizes and their damage.
    limits : sequence of Limit
        All of them have to hold.

    Returns
    -------
    dict or None
        Layer id -> units that stay; None if even the smallest sizes break a limit.
    """
    whole = {layer: int(options.sizes[-1]) for layer, options in size_options.items()}
    if _meets(limits, whole):
        return whole
    if not _meets(limits, smallest(size_options)):
        return None
    shares = np.full(len(limits), 1.0 / len(limits))
    best: UnitCounts | None = None
    for _ in range(WEIGHT_UPDATES if len(limits) > 1 else 1):
        counts = _sweep(size_options, limits, shares, whole)
        # Several weightings of the limits meet them; the least damage decides.
        if best is None or total_damage(size_options, counts) < total_damage(size_options, best):
            best = counts
        utilizations = np.array([limit.utilization(counts) for limit in limits])
        shares = shares * np.square(utilizations)  # a limit with room to spare matters less
        shares /= shares.sum()
    assert best is not None
    return _polish(size_options, limits, best)


def frontier(size_options: Mapping[LayerId, SizeOptions], cost: CostModel, whole: float) -> list[tuple[float, float]]:
    """Return costs and the least damage at each, from the smallest cost to the largest; every one costs one descent.

    Parameters
    ----------
    whole : float
        A cost that the others are of the order of.
    """
    start, limits = largest(size_options), [Limit(cost, whole)]
    counts = [_descend(size_options, limits, np.array([multiplier]), start) for multiplier in FRONTIER]
    ends = [smallest(size_options), start]
    return sorted({(cost.total(own), total_damage(size_options, own)) for own in [*counts, *ends]})


def smallest(size_options: Mapping[LayerId, SizeOptions]) -> UnitCounts:
    """Return the smallest size of each layer."""
    return {layer: int(options.sizes[0]) for layer, options in size_options.items()}


def largest(size_options: Mapping[LayerId, SizeOptions]) -> UnitCounts:
    """Return the largest size of each layer: nothing is cut."""
    return {layer: int(options.sizes[-1]) for layer, options in size_options.items()}


def _meets(limits: Sequence[Limit], counts: Mapping[LayerId, int]) -> bool:
    return all(limit.utilization(counts) <= 1.0 for limit in limits)


def total_damage(size_options: Mapping[LayerId, SizeOptions], counts: Mapping[LayerId, int]) -> float:
    """Return the sum of the damage that each layer's size does alone."""
    return float(
        sum(options.damage[np.searchsorted(options.sizes, counts[layer])] for layer, options in size_options.items())
    )


def _sweep(
    size_options: Mapping[LayerId, SizeOptions], limits: Sequence[Limit], shares: Floats, whole: UnitCounts
) -> UnitCounts:
    """Find the smallest multiplier that meets the limits, and the counts it gives."""
    # Damage and utilization are near 1, so the multiplier is well within.
    low, high = 1e-9, 1e9
    counts = smallest(size_options)
    for _ in range(HALVINGS):
        # Halving in logarithms: the right multiplier may be of any order of magnitude.
        middle = float(np.sqrt(low * high))
        trial = _descend(size_options, limits, middle * shares, whole)
        if _meets(limits, trial):
            high, counts = middle, trial
        else:
            low = middle
    return counts


def _descend(
    size_options: Mapping[LayerId, SizeOptions], limits: Sequence[Limit], multipliers: Floats, start: UnitCounts
) -> UnitCounts:
    """Give each layer in turn the size that is best while the others stay, until none changes."""
    counts = dict(start)
    for _ in range(ROUNDS):
        changed = False
        for layer, options in size_options.items():
            # Costs are products of sizes of neighboring layers: with the others fixed, that of one layer is known
            # exactly.
            price = options.damage + _utilization(limits, multipliers, layer, options.sizes, counts)
            size = int(options.sizes[int(np.argmin(price))])
            changed |= size != counts[layer]
            counts[layer] = size
        if not changed:
            break
    return counts


def _utilization(
    limits: Sequence[Limit], multipliers: Floats, layer: LayerId, sizes: Ints, counts: UnitCounts
) -> Floats:
    parts = (
        factor * limit.cost.of_layer(layer, sizes, counts) / limit.most
        for factor, limit in zip(multipliers, limits, strict=True)
    )
    return sum(parts, start=np.zeros(len(sizes)))


def _polish(size_options: Mapping[LayerId, SizeOptions], limits: Sequence[Limit], counts: UnitCounts) -> UnitCounts:
    """Spend what is left: enlarge layers one step, or one against another made smaller, while that helps and fits."""
    while (step := _best_change(size_options, limits, counts)) is not None:
        counts = {**counts, **step}
    return counts


def _best_change(
    size_options: Mapping[LayerId, SizeOptions], limits: Sequence[Limit], counts: UnitCounts
) -> UnitCounts | None:
    steps = {layer: _neighbours(options, counts[layer]) for layer, options in size_options.items()}
    ups = [(layer, up) for layer, (_, up) in steps.items() if up is not None]
    downs = [(layer, down) for layer, (down, _) in steps.items() if down is not None]
    changes: list[UnitCounts] = [{layer: up} for layer, up in ups]
    # Pairs, as a budget that is spent leaves no room for one layer to grow alone.
    changes += [{one: up, other: down} for one, up in ups for other, down in downs if one != other]
    gain = _gain_of(size_options, counts)
    # The first that fits is the best that fits, so most changes need no check of all limits.
    worthwhile = sorted((change for change in changes if gain(change) > 0), key=gain, reverse=True)
    return next((change for change in worthwhile if _meets(limits, {**counts, **change})), None)


def _neighbours(options: SizeOptions, size: int) -> tuple[int | None, int | None]:
    place = int(np.searchsorted(options.sizes, size))
    down = int(options.sizes[place - 1]) if place else None
    return down, int(options.sizes[place + 1]) if place + 1 < len(options.sizes) else None


def _gain_of(size_options: Mapping[LayerId, SizeOptions], counts: UnitCounts) -> Callable[[UnitCounts], float]:
    def gain(change: UnitCounts) -> float:
        # Damage adds up over layers, so only those that change count.
        touched = {layer: size_options[layer] for layer in change}
        before = {layer: counts[layer] for layer in change}
        return total_damage(touched, before) - total_damage(touched, change)

    return gain
