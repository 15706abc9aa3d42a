"""Caches that grow with each sample, as the keys and values of a decoder do.

Samples with caches of different lengths cannot stand in one array. So every sample meets a cache of as many steps: the
original is run through the few samples before it, from an empty cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxmi.data.calibration import LABELS, Calibration
from onnxmi.data.stored import SampleArray, take_samples
from onnxmi.errors import CalibrationError
from onnxmi.model import TensorInfo
from onnxmi.runtime.session import Session, as_numpy
from onnxmi.typing import Array, Ints, Samples, Shape

DEPTH = 4  # samples that a cache holds
_TOGETHER = 64  # samples that are run at once
_GROWS = ("past", "total")  # in the names of dimensions of what covers the cache, too, as a mask does


@dataclass(frozen=True)
class Cache:
    """A state that grows.

    Attributes
    ----------
    output : str
        The output that it comes out of.
    samples, steps : int
        Its axis of samples, and that along which it grows.
    shape : tuple of int
        Of an empty one, for one sample.
    dtype : numpy dtype
        Its type.
    """

    output: str
    samples: int
    steps: int
    shape: Shape
    dtype: np.dtype[np.generic]

    def empty(self, count: int) -> Array:
        """Return empty caches for some samples."""
        shape = [count if axis == self.samples else size for axis, size in enumerate(self.shape)]
        return np.zeros(shape, self.dtype)


def growing_axis(before: Shape, after: Shape) -> int | None:
    """Return the axis along which a state is longer after a step; None where it keeps its shape."""
    axes = [axis for axis, (was, now) in enumerate(zip(before, after, strict=True)) if was != now]
    return axes[0] if len(axes) == 1 else None


def with_caches(
    session: Session,
    data: Calibration,
    arrays: Mapping[str, SampleArray],
    members: Sequence[Samples],
    caches: Mapping[str, Cache],
    inputs: Sequence[TensorInfo],
) -> tuple[dict[str, SampleArray], Ints]:
    """Return the samples that follow `DEPTH` others, with the caches that these leave, and which samples those are.

    Parameters
    ----------
    session : Session
        Of the original.
    data : Calibration
        All samples.
    arrays : mapping of str to array
        What was read; inputs that are fed whole stay as they are.
    members : sequence of (n,) int64
        The samples of each sequence, in order.
    caches : mapping of str to Cache
        By the inputs that they are fed as.
    inputs : sequence of TensorInfo
        Of the model.

    Raises
    ------
    CalibrationError
        If no sequence is long enough, or the model fixes the number of samples.
    """
    windows = np.array([own[at - DEPTH : at + 1] for own in members for at in range(DEPTH, len(own))], dtype=np.int64)
    if not len(windows) or data.step is not None:
        raise CalibrationError(
            f"a cache that grows needs sequences of more than {DEPTH} samples, and a batch that the model leaves free"
        )
    covering = [info.name for info in inputs if info.name not in caches and _covers_cache(info)]
    runs = _Runs(session, data, caches, covering)
    parts = [runs.before(part) for part in _parts(windows)]
    grown: dict[str, SampleArray] = {
        name: np.concatenate([part[name] for part in parts], cache.samples) for name, cache in caches.items()
    }
    last = windows[:, -1]
    for name, array in arrays.items():
        if name in grown or name in data.whole:
            grown.setdefault(name, array)
        elif name in covering:
            grown[name] = runs.joined(name, windows)
        elif name in data.arrays or name == LABELS:
            grown[name] = take_samples(array, last, data.axis(name))
        else:
            grown[name] = array
    return grown, last


def _covers_cache(info: TensorInfo) -> bool:
    return any(isinstance(dim, str) and any(word in dim for word in _GROWS) for dim in info.dims or ())


def _parts(windows: Ints) -> Iterator[Ints]:
    for start in range(0, len(windows), _TOGETHER):
        yield windows[start : start + _TOGETHER]


@dataclass(frozen=True, eq=False)
class _Runs:
    """The original on its way through windows of samples."""

    session: Session
    data: Calibration
    caches: Mapping[str, Cache]
    covering: Sequence[str]

    def before(self, windows: Ints) -> dict[str, Array]:
        """Return the caches that the last sample of each window meets."""
        met = {name: cache.empty(len(windows)) for name, cache in self.caches.items()}
        for place in range(windows.shape[1] - 1):
            masks = {name: self.joined(name, windows[:, : place + 1]) for name in self.covering}
            made = as_numpy(self.session.run({**self.data.feed(windows[:, place]), **masks, **met}))
            met = {name: made[cache.output] for name, cache in self.caches.items()}
        return met

    def joined(self, name: str, windows: Ints) -> Array:
        """Return what a mask holds for all samples of each window, side by side."""
        array, axis = self.data.arrays[name], self.data.axis(name)
        each = [take_samples(array, windows[:, place], axis) for place in range(windows.shape[1])]
        return np.concatenate(each, axis=1 if axis == 0 else 0)
