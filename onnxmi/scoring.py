"""Scores: what each unit of a layer is worth, seen from the linear operators that consume it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxmi.dims.channel_graph import Layer
from onnxmi.dims.term import Keeping, atoms
from onnxmi.information import Selection, View, joint, pairwise, pairwise_gaussian, top, variance, wanda
from onnxmi.linear import Linear

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Consumer:
    """One group of one linear operator that consumes a layer, restricted to what is kept so far.

    Attributes
    ----------
    covariance : (K, K) of its input features; mean : (K,).
    weights : (K, M), the columns of the kept neurons above.
    units : (K,) the layer's unit that owns each feature, -1 for other layers' features.
    binned : (K, M) mutual information from histograms in nats, where they were captured.
    """

    covariance: Floats
    mean: Floats
    weights: Floats
    units: Ints
    binned: Floats | None = None


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
    norms : (units,)
        Euclidean norm of all weights that hang on a unit.
    seed : int
        For the random baseline.
    """

    layer: Layer
    consumers: tuple[Consumer, ...]
    keep: int
    quota: int
    parts: Ints | None
    norms: Floats
    seed: int

    @property
    def units(self) -> int:
        """Number of units over all parts."""
        return self.layer.units

    def best(self, scores: Floats) -> Selection:
        """Keep the units with the highest scores."""
        return top(scores, self.keep, self.parts, self.quota if self.parts is not None else None)


def _joint(candidates: Candidates) -> Selection:
    """Greedy joint Gaussian information about all consumers' kept neurons; see `onnxmi.information.joint`."""
    views = [View(c.covariance, c.weights, c.units) for c in candidates.consumers]
    quota = candidates.quota if candidates.parts is not None else None
    return joint(views, candidates.units, candidates.keep, parts=candidates.parts, quota=quota)


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
    """Sum over kept upper neurons of I(x_i; y_j), from quantile histograms."""
    tables = [(c.binned, c.units) for c in candidates.consumers if c.binned is not None]
    return candidates.best(sum((pairwise(t, u, candidates.units) for t, u in tables), _none(candidates)))


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
    return candidates.best(candidates.norms)


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

SCORES = tuple(dict.fromkeys(score for score, _ in SCORERS))
ESTIMATORS = ("gaussian", "binned")


def consumes(linear: Linear, layer: Layer) -> bool:
    """Whether a linear operator contracts over a layer."""
    return any(atom.id == layer.id for atom in atoms(linear.channels)) and any(
        node.index in layer.users for node in linear.nodes
    )


def unit_of_features(linear: Linear, layer: Layer) -> Ints:
    """Unit of a layer that owns each input feature of a linear operator, (groups, K); -1 for other layers' features.

    The units of a ragged layer are numbered part by part.
    """
    inner = linear.feature_units(layer.id)
    if layer.over is None:
        return inner
    outer = linear.feature_units(layer.over)
    return np.where(inner >= 0, outer * layer.size + inner, -1)


def consumer(
    linear: Linear,
    group: int,
    layer: Layer,
    keeping: Keeping,
    weights: Floats,
    covariance: Floats,
    mean: Floats,
    binned: Floats | None,
) -> Consumer | None:
    """Restrict one group of a linear operator to what is kept so far; None where the layer has nothing in it.

    Parameters
    ----------
    weights, covariance, mean, binned
        (K, M), (K, K), (K,) and (K, M) of the whole group.
    """
    rows = np.flatnonzero(linear.kept_features(keeping)[group])
    columns = np.flatnonzero(linear.kept_outputs(keeping)[group])
    units = unit_of_features(linear, layer)[group][rows]
    if not rows.size or not columns.size or (units < 0).all():
        return None
    table = None if binned is None else binned[np.ix_(rows, columns)]
    return Consumer(covariance[np.ix_(rows, rows)], mean[rows], weights[np.ix_(rows, columns)], units, table)
