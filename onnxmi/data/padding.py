"""Padding of the samples: how long each is without it, so that batches of short ones can be run short."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxmi.typing import Array, Ints, Samples


@dataclass(frozen=True, eq=False)
class Padding:
    """Which inputs are padded at the end of their second axis, and from where on.

    Attributes
    ----------
    names : frozenset of str
        The padded inputs.
    lengths : (samples,) int64
        Positions before the padding, at least one.
    """

    names: frozenset[str]
    lengths: Ints

    @staticmethod
    def of(mask: Array, names: frozenset[str]) -> Padding:
        """Read the lengths off a mask, (samples, positions), that is zero at padding."""
        positions = np.arange(1, mask.shape[1] + 1)
        return Padding(names, np.maximum((np.where(mask != 0, positions, 0)).max(axis=1), 1))

    def shortest_first(self, samples: Samples) -> Samples:
        """Sort samples by length: those of one batch then share most of their padding."""
        return samples[np.argsort(self.lengths[samples], kind="stable")]

    def longest(self, samples: Samples) -> int:
        """Return the positions before those that are padding in all of the samples."""
        return int(self.lengths[samples].max())

    def trim(self, name: str, array: Array, longest: int) -> Array:
        """Leave out the positions of an input from `longest` on, if it is padded."""
        return array[:, :longest] if name in self.names else array
