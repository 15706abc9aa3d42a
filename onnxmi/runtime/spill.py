"""Arrays in one temporary file: room that one leaves is taken by the next, and its pages are warm.

A file for each array took three times as long: to make and remove it, and to write and read its header.
"""

from __future__ import annotations

import weakref
from bisect import insort
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnxmi.errors import DataError
from onnxmi.model.temporary import TemporaryFolder
from onnxmi.typing import Array


@dataclass(frozen=True, eq=False)
class Spilled:
    """An array in the file.

    Attributes
    ----------
    offset : int
        Of its first byte.
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Of its entries.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def bytes(self) -> int:
        """What it takes of the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class SpillFile:
    """A file in the system's place for temporary files; it goes with this object."""

    def __init__(self) -> None:
        self._folder = TemporaryFolder()
        self._path = Path(self._folder.name, "tensors")
        # Unbuffered: whole arrays are written, which a buffer would only copy once more.
        self._file = self._path.open("w+b", buffering=0)
        weakref.finalize(self, self._file.close)
        self._free: list[tuple[int, int]] = []  # offset and bytes, in order, no two of them adjacent
        self._end = 0

    def write(self, value: Array) -> Spilled:
        """Write an array that is not empty.

        Raises
        ------
        DataError
            If there is no room.
        """
        data = _bytes_of(np.ascontiguousarray(value))
        held = Spilled(self._take(data.size), value.shape, value.dtype)
        try:
            self._file.seek(held.offset)
            while data.size:  # a system call writes 2 GiB at most
                data = data[self._file.write(data.data) :]
        except OSError as error:
            reason = error.strerror or error
            raise DataError(
                f"{self._folder.name}: {reason}: set TMPDIR to a folder with room for temporary files"
            ) from error
        return held

    def read(self, held: Spilled) -> Array:
        """Return an array."""
        value = np.empty(held.shape, held.dtype)
        data = _bytes_of(value)
        self._file.seek(held.offset)
        while data.size:
            count = self._file.readinto(data.data)
            if not count:
                raise DataError(f"{self._folder.name}: a temporary file was cut short while it was in use")
            data = data[count:]
        return value

    def drop(self, held: Spilled) -> None:
        """Leave the room of an array to others."""
        insort(self._free, (held.offset, held.bytes))
        merged: list[tuple[int, int]] = []
        for offset, size in self._free:
            if merged and sum(merged[-1]) == offset:
                merged[-1] = merged[-1][0], merged[-1][1] + size
            else:
                merged.append((offset, size))
        self._free = merged

    def _take(self, size: int) -> int:
        """Return the offset of so many bytes: the first that are free, or at the end."""
        for number, (offset, room) in enumerate(self._free):
            if room >= size:
                rest = [(offset + size, room - size)] if room > size else []
                self._free[number : number + 1] = rest
                return offset
        self._end += size
        return self._end - size


def _bytes_of(value: Array) -> NDArray[np.uint8]:
    return value.reshape(-1).view(np.uint8)
