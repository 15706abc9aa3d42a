"""Arrays of samples that stay on the disk: a batch is read when it is asked for, so memory does not grow with the data.

They are read by position, not mapped: pages of a mapping would count as memory of the process, and a file that is
shortened meanwhile would end it.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import IO, Any

import numpy as np

from onnxmi.errors import CalibrationError
from onnxmi.typing import Array, Samples, Shape

LARGE = 1 << 24  # bytes; smaller arrays are read at once
BLOCK = 1 << 25  # bytes of a block, where all samples are gone through
_READ = 1 << 30  # bytes of one read: systems refuse more than 2 GiB


class LazyArray(ABC):
    """An array that is read in parts.

    Attributes
    ----------
    shape : tuple of int
        Of the whole array.
    dtype : numpy dtype
        Of its entries.
    """

    shape: Shape
    dtype: np.dtype[Any]

    @abstractmethod
    def take(self, samples: Samples, axis: int = 0) -> Array:
        """Read the entries at some places (from 0 on) of one axis, in the order asked for."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: int | slice | Samples) -> Array:
        """Read some entries along the first axis, as numpy's arrays do."""
        chosen = np.arange(len(self))[places]
        read = self.take(np.atleast_1d(chosen))
        return read if np.ndim(chosen) else np.asarray(read[0])

    def blocks(self) -> Iterator[Array]:
        """Yield the array in blocks along its first axis."""
        step = max(1, BLOCK * len(self) // max(self.nbytes, 1))
        for start in range(0, len(self), step):
            yield self[start : start + step]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        """Read everything."""
        return np.asarray(self.take(np.arange(len(self))), dtype=dtype)


SampleArray = Array | LazyArray
"""An array of samples, in memory or on the disk."""


class OpenFile:
    """A file that is closed when the last array in it is gone.

    Parameters
    ----------
    stream : binary file
        Open.
    name : str
        For messages.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.stream, self.name = stream, name
        weakref.finalize(self, stream.close)

    @staticmethod
    def again(stream: IO[bytes]) -> OpenFile:
        """Open the file of a stream once more, so that it can be closed."""
        return OpenFile(os.fdopen(os.dup(stream.fileno()), "rb"), str(stream.name))


class StoredArray(LazyArray):
    """An array in a file, in the order of C.

    Parameters
    ----------
    file : OpenFile
        Where it is.
    offset : int
        Bytes before the array.
    shape, dtype
        Of the array.
    """

    def __init__(self, file: OpenFile, offset: int, shape: Shape, dtype: np.dtype[Any]) -> None:
        self._file, self._offset = file, offset
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    def take(self, samples: Samples, axis: int = 0) -> Array:
        """Read the entries at some places of one axis; neighbors are read at once."""
        outer, inner = prod(self.shape[:axis]), prod(self.shape[axis + 1 :]) * self.dtype.itemsize
        read = np.empty((outer, len(samples), inner), dtype=np.uint8)
        for block in range(outer):
            for start, stop in _runs(samples):
                first = block * self.shape[axis] + int(samples[start])
                self._read(read[block, start:stop].reshape(-1), self._offset + first * inner)
        shape = (*self.shape[:axis], len(samples), *self.shape[axis + 1 :])
        return read.reshape(-1).view(self.dtype).reshape(shape)

    def _read(self, into: Array, offset: int) -> None:
        _read_at(self._file.stream, self._file.name, into, offset)


def _read_at(stream: IO[bytes], name: str, into: Array, offset: int) -> None:
    done = 0
    while done < len(into):
        count = os.preadv(stream.fileno(), [into[done : done + _READ].data], offset + done)
        if not count:
            raise CalibrationError(f"{name}: has been shortened while it was read")
        done += count


class LocatedArray(StoredArray):
    """An array in a file that is opened for each read: any number of them can be held.

    Parameters
    ----------
    path : str
        The file.
    offset : int
        Bytes before the array.
    shape, dtype
        Of the array.
    """

    def __init__(self, path: str, offset: int, shape: Shape, dtype: np.dtype[Any]) -> None:
        self._path, self._offset = path, offset
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    def rows(self) -> LocatedArray:
        """Return the same numbers as rows along the last axis."""
        return LocatedArray(self._path, self._offset, (prod(self.shape[:-1]), self.shape[-1]), self.dtype)

    def _read(self, into: Array, offset: int) -> None:
        with open(self._path, "rb", buffering=0) as stream:
            _read_at(stream, self._path, into, offset)


def _runs(samples: Samples) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of stretches of consecutive samples."""
    breaks = np.flatnonzero(np.diff(samples) != 1) + 1
    yield from pairwise([0, *breaks.tolist(), len(samples)] if len(samples) else [])


@dataclass(frozen=True, eq=False)
class ConvertedArray(LazyArray):
    """An array whose samples are turned into others when they are read.

    Attributes
    ----------
    source : array or LazyArray
        What is read; samples on the first axis, if `convert` does more than change each entry.
    convert : callable(array) -> array
        Turns a batch of the source into one of this array.
    shape, dtype
        Of all samples, converted.
    """

    source: SampleArray
    convert: Callable[[Array], Array]
    shape: Shape
    dtype: np.dtype[Any]

    def take(self, samples: Samples, axis: int = 0) -> Array:
        """Read some samples and convert them."""
        return self.convert(take_samples(self.source, samples, axis))


class PartOfArray(LazyArray):
    """A stretch of an array along one axis.

    Parameters
    ----------
    whole : LazyArray
        The array.
    start, stop : int
        The stretch.
    axis : int
        Along which.
    """

    def __init__(self, whole: LazyArray, start: int, stop: int, axis: int) -> None:
        self._whole, self._start, self._axis = whole, start, axis
        self.shape = (*whole.shape[:axis], stop - start, *whole.shape[axis + 1 :])
        self.dtype = whole.dtype

    def take(self, samples: Samples, axis: int = 0) -> Array:
        """Read some places of the stretch."""
        if axis == self._axis:
            return self._whole.take(samples + self._start, axis)
        stretch = self._whole.take(self._start + np.arange(self.shape[self._axis]), self._axis)
        return np.take(stretch, samples, axis)


class JoinedArray(LazyArray):
    """Several arrays one after the other along one axis.

    Parameters
    ----------
    parts : sequence of array or LazyArray
        Of one type, and of one shape but for the axis.
    axis : int
        Along which they are joined, and the only one that can be read in parts.
    """

    def __init__(self, parts: Sequence[SampleArray], axis: int) -> None:
        first, sizes = parts[0], [part.shape[axis] for part in parts]
        self._parts, self._axis = list(parts), axis
        self._starts = np.array([0, *accumulate(sizes)])
        self.shape = (*first.shape[:axis], sum(sizes), *first.shape[axis + 1 :])
        self.dtype = np.result_type(*[part.dtype for part in parts])

    def take(self, samples: Samples, axis: int = 0) -> Array:
        """Read from each part what lies in it."""
        if axis != self._axis:
            return np.take(self.take(np.arange(self.shape[self._axis]), self._axis), samples, axis)
        read = np.empty((*self.shape[:axis], len(samples), *self.shape[axis + 1 :]), dtype=self.dtype)
        before: tuple[Any, ...] = (slice(None),) * axis
        numbers = np.searchsorted(self._starts, samples, side="right") - 1
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            own = samples[places] - self._starts[number]
            read[(*before, places)] = take_samples(self._parts[number], own, axis)
        return read


def take_samples(array: SampleArray, samples: Samples, axis: int = 0) -> Array:
    """Return some samples of an array, in memory or on the disk."""
    if isinstance(array, LazyArray):
        return array.take(samples, axis)
    return np.asarray(array[samples] if axis == 0 else np.take(array, samples, axis))


def blocks_of(array: SampleArray) -> Iterator[Array]:
    """Yield an array in blocks along its first axis; one in memory as a whole."""
    if isinstance(array, LazyArray):
        yield from array.blocks()
    else:
        yield array


class SampleWriter:
    """Samples that come in parts: in memory while they are few, in a temporary file afterwards.

    Parameters
    ----------
    axis : int
        Of samples, along which the parts are joined.
    """

    def __init__(self, axis: int = 0) -> None:
        self._axis = axis
        self._waiting: list[Array] = []
        self._parts: list[SampleArray] = []
        self._file: OpenFile | None = None
        self._end = 0

    def add(self, samples: SampleArray) -> None:
        """Take one or more samples; all parts have one shape but for their number. Parts on the disk stay there.

        Raises
        ------
        CalibrationError
            If there is no room for a temporary file.
        """
        if isinstance(samples, LazyArray):
            self._flush()
            self._parts.append(samples)
            return
        self._waiting.append(samples)
        if samples.dtype.kind != "O" and sum(part.nbytes for part in self._waiting) > LARGE:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        block = np.ascontiguousarray(np.concatenate(self._waiting, self._axis))
        self._waiting = []
        self._parts.append(self.stored([block.data], block.shape, block.dtype))

    def stored(self, blocks: Iterable[bytes | memoryview], shape: Shape, dtype: np.dtype[Any]) -> StoredArray:
        """Write one array, in the order of C and in as many blocks as it comes in, and leave it on the disk."""
        try:
            # An unnamed file in TMPDIR: the system removes it however the run ends.
            if self._file is None:
                # Arrays keep it open, and close it.
                self._file = OpenFile(tempfile.TemporaryFile(), "a temporary file")  # noqa: SIM115
            start, stream = self._end, self._file.stream
            self._end += sum([stream.write(block) for block in blocks])
            stream.flush()
        except OSError as error:
            place = tempfile.gettempdir()
            raise CalibrationError(f"{place}: no room for the samples (set TMPDIR): {error.strerror}") from error
        return StoredArray(self._file, start, shape, dtype)

    def array(self) -> SampleArray:
        """Return all samples."""
        if not self._parts:
            return np.concatenate(self._waiting, self._axis)
        self._flush()
        return self._parts[0] if len(self._parts) == 1 else JoinedArray(self._parts, self._axis)
