"""Scores: what each unit of a layer is worth, seen from what consumes it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxmi.graph.channel_graph import Layer
from onnxmi.information import Selection, View, joint, pairwise, pairwise_gaussian, top, variance, wanda
from onnxmi.selection.targets import Consumer
from onnxmi.typing import Floats, Ints

# Of the noise on the targets, in their mean variances. On what the outputs feel it is as strong as the signal: little
# of that is worth knowing exactly. Chosen on samples held back (DESIGN.md).
NOISE, FELT_NOISE = 0.01, 1.0


@dataclass(frozen=True, eq=False)
class Candidates:
    """A layer to choose units from.

    Attributes
    ----------
    units : int
        Number of units over all parts.
    keep, quota : int
        Units to keep in all, and in each part.
    parts : (units,) int64 or None
        The part of each unit of a ragged layer.
    norms : callable returning (units,)
        Euclidean norm of all weights that hang on a unit.
    seed : int
        For the random baseline.
    """

    layer: Layer
    consumers: tuple[Consumer, ...]
    keep: int
    quota: int
    parts: Ints | None
    norms: Callable[[], Floats]
    seed: int

    @property
    def units(self) -> int:
        """Number of units over all parts."""
        return self.layer.units

    def best(self, scores: Floats) -> Selection:
        """Keep the units with the highest scores."""
        return top(scores, self.keep, self.parts, self.quota if self.parts is not None else None)


def _joint(candidates: Candidates) -> Selection:
    """Greedy joint Gaussian information about all consumers' kept neurons; see `onnxmi.information.joint`.

    Where the sensitivities of all consumers are known, about what the outputs feel of these neurons.
    """
    quota = candidates.quota if candidates.parts is not None else None
    felt = _felt_views(candidates.consumers)
    views = felt or [View(c.covariance, c.weights, c.units) for c in candidates.consumers]
    noise = FELT_NOISE if felt else NOISE
    return joint(views, candidates.units, candidates.keep, noise=noise, parts=candidates.parts, quota=quota)


def _felt_views(consumers: Sequence[Consumer]) -> list[View]:
    """Views of what the outputs feel, each weighted by how much that is; none unless it is known of all consumers."""
    views = [View(c.covariance, c.felt, c.units) for c in consumers if c.felt is not None]
    powers = [float(np.einsum("km,km->", view.covariance @ view.weights, view.weights)) for view in views]
    if len(views) < len(consumers) or not any(power > 0.0 for power in powers):
        return []
    return [replace(view, weight=power / max(powers)) for view, power in zip(views, powers, strict=True) if power > 0.0]


def _pairwise_gaussian(candidates: Candidates) -> Selection:
    """Sum over kept upper neurons of I(x_i; y_j), each pair Gaussian."""
    return candidates.best(
        sum((_gaussian_scores(c, candidates.units) for c in candidates.consumers), _none(candidates))
    )


def _gaussian_scores(consumer: Consumer, units: int) -> Floats:
    cross = consumer.covariance @ consumer.weights
    spread = np.einsum("km,km->m", consumer.weights, cross)
    information = pairwise_gaussian(consumer.covariance, cross, spread)
    return pairwise(information, consumer.units, units)


def _pairwise_binned(candidates: Candidates) -> Selection:
    """Sum over kept upper neurons of I(x_i; y_j), from quantile histograms; Gaussian where nothing was counted.

    Attention scores are made pair by pair and never seen as rows, and labels are no column of the weights.
    """
    scores = _none(candidates)
    for c in candidates.consumers:
        if c.binned is None:
            scores = scores + _gaussian_scores(c, candidates.units)
        else:
            scores = scores + pairwise(c.binned, c.units, candidates.units)
    return candidates.best(scores)


def _wanda(candidates: Candidates) -> Selection:
    """Weight times activation norm (Sun et al. 2024), summed over a unit's weights."""
    scores = _none(candidates)
    for c in candidates.consumers:
        second = np.diagonal(c.covariance) + np.square(c.mean)
        scores = scores + wanda(second, c.weights, c.units, candidates.units)
    return candidates.best(scores)


def _variance(candidates: Candidates) -> Selection:
    """Activation variance times squared weight norm (An et al. 2024)."""
    scores = _none(candidates)
    for c in candidates.consumers:
        scores = scores + variance(np.diagonal(c.covariance), c.weights, c.units, candidates.units)
    return candidates.best(scores)


def _magnitude(candidates: Candidates) -> Selection:
    """Norm of all weights that hang on a unit."""
    return candidates.best(candidates.norms())


def _random(candidates: Candidates) -> Selection:
    """Draw from a generator seeded by the seed and the layer's name."""
    rng = np.random.default_rng([candidates.seed, zlib.crc32(candidates.layer.name.encode())])
    return candidates.best(rng.random(candidates.units))


def _none(candidates: Candidates) -> Floats:
    return np.zeros(candidates.units)


Scorer = Callable[[Candidates], Selection]

SCORERS: Mapping[tuple[str, str], Scorer] = {
    ("joint", "gaussian"): _joint,
    ("pairwise", "gaussian"): _pairwise_gaussian,
    ("pairwise", "binned"): _pairwise_binned,
    ("magnitude", "gaussian"): _magnitude,
    ("wanda", "gaussian"): _wanda,
    ("variance", "gaussian"): _variance,
    ("random", "gaussian"): _random,
}
"""(score, estimator) -> how to choose. Only the pairwise score has a second estimator."""

# Scores that look at no activations.
UNMEASURED = frozenset({"magnitude", "random"})
SCORES = tuple(dict.fromkeys(score for score, _ in SCORERS))
ESTIMATORS = ("gaussian", "binned")
