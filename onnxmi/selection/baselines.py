"""Scores of others and of chance, to compare with."""

from __future__ import annotations

import zlib

import numpy as np

from onnxmi.information import Selection, variance, wanda
from onnxmi.selection.scorer import Candidates, Scorer


def select_by_wanda(candidates: Candidates) -> Selection:
    """Weight times activation norm (Sun et al. 2024), summed over a unit's weights."""
    return candidates.best_in_sum(
        lambda c: wanda(np.diagonal(c.covariance) + np.square(c.mean), c.weights, c.units, candidates.units)
    )


def select_by_variance(candidates: Candidates) -> Selection:
    """Activation variance times squared weight norm (An et al. 2024)."""
    return candidates.best_in_sum(lambda c: variance(np.diagonal(c.covariance), c.weights, c.units, candidates.units))


def select_by_magnitude(candidates: Candidates) -> Selection:
    """Norm of all weights that hang on a unit."""
    return candidates.best(candidates.norms())


def select_at_random(candidates: Candidates) -> Selection:
    """Draw from a generator seeded by the seed and the layer's name."""
    rng = np.random.default_rng([candidates.seed, zlib.crc32(candidates.layer.name.encode())])
    return candidates.best(rng.random(candidates.units))


WANDA = Scorer(select_by_wanda)
VARIANCE = Scorer(select_by_variance)
MAGNITUDE = Scorer(select_by_magnitude, needs_statistics=False)
RANDOM = Scorer(select_at_random, needs_statistics=False)
