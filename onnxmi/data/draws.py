"""Draws by content: what is drawn of a sample depends on the sample and the seed, not on its file or its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxmi.typing import Floats

GOLDEN = 0x9E3779B97F4A7C15  # steps of SplitMix64


def chances(prints: NDArray[np.uint64], seed: int) -> Floats:
    """Turn fingerprints into numbers in [0, 1), even and independent for each seed."""
    mixed = scramble(prints + np.uint64(GOLDEN * (seed + 1) % 2**64))
    return np.asarray(np.ldexp((mixed >> np.uint64(11)).astype(np.float64), -53), dtype=np.float64)


def scramble(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble each number (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
