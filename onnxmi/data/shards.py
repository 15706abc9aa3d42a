"""A shard: one of n parts of a source, which is measured apart from the others, perhaps on another machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnxmi.data.stored import PartOfArray, SampleArray
from onnxmi.errors import UsageError

MOST = 1_000_000  # shards; names of their files have room for as many


@dataclass(frozen=True)
class Shard:
    """One of several parts.

    Attributes
    ----------
    index : int
        Which, from 0 on: as Slurm and Kubernetes number the jobs of an array.
    count : int
        Of how many.
    source : str
        SHA-256 of what the whole source consists of: names and bytes of its files, or the number of its samples. Empty
        as long as nothing has been read.
    """

    index: int
    count: int
    source: str = ""

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def among(self, total: int) -> slice:
        """Return the stretch that is this shard's of so many items: every item is in one shard, in order."""
        return slice(total * self.index // self.count, total * (self.index + 1) // self.count)

    def of_source(self, pieces: Iterable[object]) -> Shard:
        """Return the shard of a source that consists of these pieces."""
        return replace(self, source=hashlib.sha256(repr(list(pieces)).encode()).hexdigest())


def parse_shard(text: str) -> Shard:
    """Read a shard such as 3/10.

    Raises
    ------
    UsageError
        If it is none.
    """
    form = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = None if form is None else Shard(int(form[1]), int(form[2]))
    if shard is None or not 0 <= shard.index < shard.count <= MOST:
        raise UsageError(f"--shard {text}: expected a number from 0 on and how many there are, such as 0/8 to 7/8")
    return shard


def divided(
    arrays: Mapping[str, SampleArray], axes: Mapping[str, int], count: int, shard: Shard
) -> dict[str, SampleArray]:
    """Return one shard's samples of each array.

    Parameters
    ----------
    axes : mapping
        The axis of samples of each array that has one; the others belong to every shard.
    count : int
        Samples of all shards.
    """
    own = shard.among(count)
    return {name: _part(array, own, axes[name]) if name in axes else array for name, array in arrays.items()}


def _part(array: SampleArray, own: slice, axis: int) -> SampleArray:
    if isinstance(array, np.ndarray):
        return array[(slice(None),) * axis + (own,)]
    return PartOfArray(array, own.start, own.stop, axis)
