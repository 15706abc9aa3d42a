"""Allocation: how many units of each layer stay, so that a budget is met at the least damage.

Minimizes the sum of the layers' damage plus a multiplier times the cost, layer by layer until nothing changes, and
searches for the multiplier at which the budget is just met: a Lagrangian sweep. A knapsack's dynamic programme would
need costs that add up over layers, and those of neighboring convolutions multiply.

The sweep sees only the convex hull of the curves: where one layer makes up most of the cost and its curve is concave,
it leaves the whole layer or next to nothing of it. So the plan just above the limit is also cut, layer by layer, by
what is the least damage for the cost that it still exceeds; and whatever either plan leaves over is spent by larger
sizes and exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from onnxmi.graph.channel_graph import LayerId, UnitCounts
from onnxmi.graph.cost_model import CostModel
from onnxmi.typing import Floats, Ints

ROUNDS = 20  # of one descent, at most; it ends earlier where nothing changes
HALVINGS = 40  # of the multiplier's interval
FRONTIER = np.logspace(-7, 2, 28)  # multipliers at which a whole curve is looked at
WEIGHT_UPDATES = 12  # updates of the multipliers' shares where there are several limits
POLISHED = 2  # plans of the least damage whose leavings are spent
GAP = 0.9  # of a plan's cost below which the next one of a frontier has plans between them


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
    plans: list[UnitCounts] = []
    for _ in range(WEIGHT_UPDATES if len(limits) > 1 else 1):
        within, beyond = _sweep(size_options, limits, shares, whole)
        plans += [within, _cover(size_options, limits, beyond)]
        utilizations = np.array([limit.utilization(within) for limit in limits])
        shares = shares * np.square(utilizations)  # a limit with room to spare matters less
        shares /= shares.sum()
    # Several weightings of the limits meet them; the least damage decides.
    plans.sort(key=lambda counts: total_damage(size_options, counts))
    polished = [_polish(size_options, limits, counts) for counts in plans[:POLISHED]]
    return min(polished, key=lambda counts: total_damage(size_options, counts))


def frontier(size_options: Mapping[LayerId, SizeOptions], cost: CostModel, whole: float) -> list[tuple[float, float]]:
    """Return costs and the least damage at each, from the smallest cost to the largest; every one costs one descent.

    Parameters
    ----------
    whole : float
        A cost that the others are of the order of.
    """
    start, limits = largest(size_options), [Limit(cost, whole)]
    counts = [_descend(size_options, limits, np.array([multiplier]), start) for multiplier in FRONTIER]
    plans = sorted([*counts, smallest(size_options), start], key=lambda own: -cost.total(own))
    between = [plan for pair in pairwise(plans) for plan in _between(size_options, cost, *pair)]
    return sorted({(cost.total(own), total_damage(size_options, own)) for own in [*plans, *between]})


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
) -> tuple[UnitCounts, UnitCounts]:
    """Find the counts at the smallest multiplier that meets the limits, and at the largest that does not."""
    # Damage and utilization are near 1, so the multiplier is well within.
    low, high = 1e-9, 1e9
    within, beyond = smallest(size_options), whole
    for _ in range(HALVINGS):
        # Halving in logarithms: the right multiplier may be of any order of magnitude.
        middle = float(np.sqrt(low * high))
        trial = _descend(size_options, limits, middle * shares, whole)
        if _meets(limits, trial):
            high, within = middle, trial
        else:
            low, beyond = middle, trial
    return within, beyond


def _cover(size_options: Mapping[LayerId, SizeOptions], limits: Sequence[Limit], start: UnitCounts) -> UnitCounts:
    """Cut a plan until it meets the limits, each time by the least damage for the cost that it still exceeds.

    A cut that saves more than is still exceeded counts as what is exceeded: the greedy rule for covering knapsacks.
    Smallest sizes have to meet the limits.
    """
    counts = dict(start)
    while any(exceeded := [max(limit.utilization(counts) - 1.0, 0.0) for limit in limits]):
        steps = (_cover_step(limits, exceeded, layer, options, counts) for layer, options in size_options.items())
        _, layer, size = min((step for step in steps if step is not None), key=lambda step: step[0])
        counts[layer] = size
    return counts


def _cover_step(
    limits: Sequence[Limit], exceeded: Sequence[float], layer: LayerId, options: SizeOptions, counts: UnitCounts
) -> tuple[float, LayerId, int] | None:
    """Return a layer's damage for the cost it saves, at the smaller size where that is least; None if nothing is."""
    place = int(np.searchsorted(options.sizes, counts[layer]))
    saved = np.zeros(place)
    for limit, excess in zip(limits, exceeded, strict=True):
        costs = limit.cost.of_layer(layer, options.sizes[: place + 1], counts) / limit.most
        saved += np.clip(costs[-1] - costs[:-1], 0.0, excess)
    if not saved.any():
        return None
    # Of equal rates the largest size: it is the least cut.
    rates = np.divide(
        options.damage[:place] - options.damage[place], saved, out=np.full(place, np.inf), where=saved > 0
    )
    best = place - 1 - int(np.argmin(rates[::-1]))
    return float(rates[best]), layer, int(options.sizes[best])


def _between(
    size_options: Mapping[LayerId, SizeOptions], cost: CostModel, above: UnitCounts, below: UnitCounts
) -> list[UnitCounts]:
    """Return plans between two of a frontier that are far apart in cost, each cut further from the one before."""
    least, plans, counts = cost.total(below), list[UnitCounts](), above
    while (most := cost.total(counts) * GAP) > least:
        counts = _cover(size_options, [Limit(cost, most)], counts)
        plans.append(counts)
    return plans


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
    """Spend what is left: enlarge layers, or one by a step against another made smaller, while that helps and fits."""
    while (step := _best_change(size_options, limits, counts)) is not None:
        counts = {**counts, **step}
    return counts


def _best_change(
    size_options: Mapping[LayerId, SizeOptions], limits: Sequence[Limit], counts: UnitCounts
) -> UnitCounts | None:
    steps = {layer: _neighbours(options, counts[layer]) for layer, options in size_options.items()}
    ups = [(layer, up) for layer, (_, up) in steps.items() if up is not None]
    downs = [(layer, down) for layer, (down, _) in steps.items() if down is not None]
    # Any larger size: one step alone may help nothing where a curve is flat.
    changes: list[UnitCounts] = [
        {layer: int(size)}
        for layer, options in size_options.items()
        for size in options.sizes[np.searchsorted(options.sizes, counts[layer]) + 1 :]
    ]
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
