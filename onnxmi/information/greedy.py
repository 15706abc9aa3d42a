"""Choose the units that jointly tell most about the layers above: greedy Gaussian mutual information."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxmi.information.gaussian_channel import Channel
from onnxmi.information.view import Allowance, Selection, View
from onnxmi.typing import Floats, Ints

__all__ = ["Selection", "View", "joint"]

_TIE = 1e-9
"""Gains closer than this share of the best one (and gains below this many nats) are equal, whatever BLAS rounds to."""


def joint(
    views: Sequence[View],
    n_units: int,
    keep: int,
    *,
    noise: float = 0.01,
    parts: Ints | None = None,
    quota: int | None = None,
) -> Selection:
    """Grow S by the unit that adds most to the sum over views of ``weight * I(X_S ; Y + N | other layers)``.

    X is taken as Gaussian and N as independent noise of variance ``noise`` times the mean variance of the targets,
    which makes the information finite. It is monotone in S. Where the features are independent given Y + N it is
    submodular too (Krause and Guestrin 2005), and greedy within 1 - 1/e of the best subset (Nemhauser, Wolsey and
    Fisher 1978). In general it is not: given one addend of a sum the other tells more. Then greedy has no guarantee.

    Parameters
    ----------
    views : the consumers of the layer, at least one.
    n_units : number of units of the layer. A unit in no view gains nothing.
    keep : how many to choose; the first k of ``order`` are the choice for every smaller k (without parts).
    noise : above 0, relative to the mean variance of the targets of each view. Between 1e-6 and 1e3 nats are right to
        0.1 %; below 1e-9 it drowns in the ridge of the covariance.
    parts : (n_units,) the part each unit belongs to, such as its convolution group or head.
    quota : how many to choose of every part; ``keep`` must be quota times the number of parts.

    Returns
    -------
    Selection with gains in nats. Units that add nothing (constant, duplicate, no longer needed) come last, in index
    order; ties go to the lowest index. Moments from n rows bias a view's nats up by about ``|X_S| M / (2 n)``.

    Raises
    ------
    ValueError : no views, noise not above 0, contradictory keep, parts and quota, or a covariance that is not one.

    Notes
    -----
    K one-feature units cost ``O(K**2 (M + k / 64) + K k)`` per view: two covariances and one blocked Cholesky sweep.
    """
    if not views or not noise > 0.0:
        raise ValueError(f"{len(views)} views and noise {noise}: expected a view or more, and noise above 0")
    allowance = Allowance(n_units, keep, parts, quota)
    channels = [Channel(view, n_units, noise) for view in views]
    return grow(channels, allowance, keep)


def grow(channels: Sequence[Channel], allowance: Allowance, keep: int) -> Selection:
    """Choose ``keep`` units that ``allowance`` leaves open, the best next one each time; uses the channels up."""
    order: list[int] = []
    gains: list[float] = []
    while len(order) < keep:
        # Views are summed: each consumer is told separately, and none can make up for another.
        unit, gain = _best(np.sum([channel.gains(allowance.open) for channel in channels], axis=0), allowance)
        allowance.take(unit)
        order.append(unit)
        gains.append(gain)
        # What adds nothing now is taken to add nothing later: a synergy this small is not waited for.
        if gain == 0.0:
            _fill(order, gains, allowance, keep)
            break
        for channel in channels:
            channel.condition(unit)
    return Selection.of(order, gains)


def _best(gains: Floats, allowance: Allowance) -> tuple[int, float]:
    """Find the open unit of largest gain, the first of equals; of gain 0 if no open unit adds anything."""
    # Below every gain: a closed unit never wins, not even against gains of 0.
    candidates = np.where(allowance.open, gains, -1.0)
    best = float(candidates.max())
    if best <= _TIE:
        return allowance.first(), 0.0
    # The first of those that rounding cannot tell apart, so that another BLAS chooses alike.
    unit = int(np.argmax(candidates >= best * (1.0 - _TIE)))
    return unit, float(gains[unit])


def _fill(order: list[int], gains: list[float], allowance: Allowance, keep: int) -> None:
    """Complete the order with units that add nothing, lowest index first."""
    while len(order) < keep:
        order.append(allowance.first())
        gains.append(0.0)
        allowance.take(order[-1])
