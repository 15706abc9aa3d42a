"""Archives of arrays (.npz): written one array at a time, and read from anywhere.

Plain arrays alone are read, and no more memory is taken than the archive owns up to.

What an array takes stands in its header and in the archive's directory. Both are read first, so that a small file that
unpacks to a huge one is refused instead of filling the memory.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnxmi.data.stored import LARGE as STAYS
from onnxmi.data.stored import LazyArray, LocatedArray, OpenFile, SampleArray, SampleWriter, StoredArray, blocks_of
from onnxmi.errors import CalibrationError, DataError
from onnxmi.typing import Array, Shape

Refusal = Callable[[str], DataError]

LARGE = 1 << 28  # bytes; what unpacks to less does no harm
RATIO = 200  # packed arrays of real samples shrink by less
MAPPED = 1 << 20  # bytes; smaller arrays are read
_BLOCK = 1 << 20  # bytes read at once
_LENGTHS = 26  # where in an entry's own header the lengths of its name and of its extra field stand
_NPY = b"\x93NUMPY"  # how a file with a single array starts
_Header = tuple[Shape, bool, np.dtype[Any]]  # shape, whether in the order of Fortran, type
_HEADERS: dict[tuple[int, int], tuple[int, Callable[[IO[bytes]], _Header]]] = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}
"""Version -> the bytes of the header's length, and who reads it from there."""


def write_archive(stream: IO[bytes], arrays: Iterable[tuple[str, SampleArray]]) -> None:
    """Write named arrays, as numpy.savez does; those on the disk in blocks. An error leaves nothing open."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                _write_array(entry, array)


def _write_array(stream: IO[bytes], array: SampleArray) -> None:
    if not isinstance(array, LazyArray):
        np.lib.format.write_array(stream, array, allow_pickle=False)
        return
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for block in blocks_of(array):
        stream.write(np.ascontiguousarray(block).data)


def read_archive(
    path: Path, refusal: Refusal, kind: str = "a readable .npz file", *, mapped: bool = False
) -> dict[str, Array]:
    """Read all arrays of an `.npz` file.

    Parameters
    ----------
    path : Path
        The file.
    refusal : callable(message)
        Makes the error to raise; the message has the path in front.
    kind : str
        What the file should be, for messages.
    mapped : bool
        Leave arrays that are not packed in the file and map them into memory (read-only), once their checksums have
        been found right.

    Returns
    -------
    dict of str to array
        In the file's order.

    Raises
    ------
    DataError
        What `refusal` makes: the file is missing, no archive, damaged, holds Python objects or unpacks to far more
        than its size.
    """
    return _read_archive(path, refusal, kind, _mapped if mapped else None)


def open_archive(path: Path) -> dict[str, SampleArray]:
    """Open an `.npz` file of samples: large arrays stay on the disk.

    Those that are not packed are read from the file itself, packed ones are unpacked into a temporary file.

    Raises
    ------
    CalibrationError
        As `read_archive` does.
    """
    return _read_archive(path, CalibrationError, "a readable .npz file", _stored)


def locate_archive(path: Path, refusal: Refusal, kind: str, *, checked: bool = True) -> dict[str, Array | LocatedArray]:
    """Find the arrays of an `.npz` file and leave them in it; packed ones are read.

    Parameters
    ----------
    path, refusal, kind
        See `read_archive`, which raises the same.
    checked : bool
        Whether to compare all checksums, which takes reading the file once.
    """
    return _read_archive(path, refusal, kind, partial(_located, path=path, checked=checked))


def _located(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: IO[bytes], *, path: Path, checked: bool
) -> LocatedArray | None:
    if entry.compress_type != zipfile.ZIP_STORED:
        return None
    with archive.open(entry) as stream:
        (shape, column_major, dtype), header = _header(stream), stream.tell()
    if column_major or not shape:
        return None
    if checked:
        _checked(archive, entry)
    return LocatedArray(str(path), _start_of(entry, file) + header, shape, dtype)


def _read_archive(path: Path, refusal: Refusal, kind: str, place: _Place | None) -> dict[str, Any]:
    try:
        with _opened(path, refusal) as stream:
            # numpy takes what is no archive for a pickle, and this program reads no pickles
            if zipfile.is_zipfile(stream):
                return _read(stream, path, refusal, kind, place)
            if not os.fstat(stream.fileno()).st_size:
                raise refusal(f"{path}: is empty, not {kind}")
            stream.seek(0)
            single = stream.read(len(_NPY)) == _NPY
    except OSError as error:
        raise refusal(f"{path}: cannot be read: {error.strerror or error}") from error
    if single:
        raise refusal(f"{path}: is a single array; save with numpy.savez(path, INPUT_NAME=array, ...)")
    raise refusal(f"{path}: is not {kind}")


def _opened(path: Path, refusal: Refusal) -> IO[bytes]:
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a name with a NUL
        raise refusal(f"{path}: cannot be read: {error}") from error
    if stat.S_ISDIR(mode):
        raise refusal(f"{path}: is a folder, not an .npz file")
    if not stat.S_ISREG(mode):  # a pipe would be waited for
        raise refusal(f"{path}: is not a regular file")
    return path.open("rb")


_Place = Callable[[zipfile.ZipFile, zipfile.ZipInfo, IO[bytes]], SampleArray | None]
"""Leaves an array where it is; None where it is to be read."""


def _read(stream: IO[bytes], path: Path, refusal: Refusal, kind: str, place: _Place | None) -> dict[str, Any]:
    left: dict[str, SampleArray] = {}
    try:
        with zipfile.ZipFile(stream) as archive:
            objection = _objection(archive, os.fstat(stream.fileno()).st_size)
            if objection:
                raise refusal(f"{path}: {objection}")
            for entry in archive.infolist() if place is not None else ():
                array = place(archive, entry, stream) if place is not None else None
                if array is not None:
                    left[_name(entry)] = array
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as loaded:
            return {name: left[name] if name in left else loaded[name] for name in loaded.files}
    except (OSError, MemoryError, DataError):
        raise
    except Exception as error:  # numpy, zipfile, zlib and tokenize raise many unrelated types on a damaged archive
        raise refusal(f"{path}: is not {kind}") from error


def _mapped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: IO[bytes]) -> Array | None:
    """Map an array that is not packed; raises BadZipFile if its checksum is wrong."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < MAPPED:
        return None
    (shape, column_major, dtype), header = _checked(archive, entry)
    start = _start_of(entry, file) + header
    array = np.memmap(file, dtype, "r", start, shape, "F" if column_major else "C")
    return np.asarray(array)


def _stored(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: IO[bytes]) -> StoredArray | None:
    """Leave a large array in the file, or unpack it into a temporary one."""
    if entry.file_size < STAYS:
        return None
    with archive.open(entry) as stream:
        shape, column_major, dtype = _header(stream)
        if column_major:
            return None
        if entry.compress_type != zipfile.ZIP_STORED:
            return SampleWriter().stored(iter(lambda: stream.read(_BLOCK), b""), shape, dtype)
    _, header = _checked(archive, entry)
    return StoredArray(OpenFile.again(file), _start_of(entry, file) + header, shape, dtype)


def _header(stream: IO[bytes]) -> _Header:
    return _header_of(np.lib.format.read_magic(stream), stream)


def _header_of(version: tuple[int, int], stream: IO[bytes]) -> _Header:
    length = stream.read(_HEADERS[version][0])
    return _parsed(version, length + stream.read(int.from_bytes(length, "little")))


@lru_cache(maxsize=1024)
def _parsed(version: tuple[int, int], header: bytes) -> _Header:
    """Read a header, which is a literal of Python. All shards of a source have the same ones."""
    return _HEADERS[version][1](io.BytesIO(header))


def _checked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[_Header, int]:
    """Return an array's header and its length; read through the array, as zipfile compares the checksum at the end."""
    with archive.open(entry) as stream:
        header, length = _header(stream), stream.tell()
        while stream.read(_BLOCK):
            pass
    return header, length


def _start_of(entry: zipfile.ZipInfo, file: IO[bytes]) -> int:
    """Where the bytes of an entry start in the file."""
    # What an entry starts with has its own lengths, which need not be those that the archive's directory states.
    file.seek(entry.header_offset + _LENGTHS)
    name, extra = struct.unpack("<HH", file.read(4))
    return int(entry.header_offset + _LENGTHS + 4 + name + extra)


def open_array(path: Path) -> SampleArray:
    """Open an `.npy` file of samples; a large array stays on the disk.

    Raises
    ------
    CalibrationError
        If it is missing, damaged, or holds Python objects.
    """
    kind = "a readable .npy file"
    try:
        with _opened(path, CalibrationError) as stream:
            try:
                shape, column_major, dtype = _header(stream)
            except Exception as error:  # numpy and tokenize raise many unrelated types on a damaged header
                raise CalibrationError(f"{path}: is not {kind}") from error
            if dtype.hasobject:
                raise CalibrationError(f"{path}: holds Python objects; only plain arrays are read")
            size, start = os.fstat(stream.fileno()).st_size, stream.tell()
            if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != size - start:
                raise CalibrationError(f"{path}: is not as long as its shape {shape} takes")
            if size >= STAYS and not column_major:
                return StoredArray(OpenFile.again(stream), start, shape, dtype)
            stream.seek(0)
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror or error}") from error


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removesuffix(".npy")


def _objection(archive: zipfile.ZipFile, packed: int) -> str | None:
    """Return what is wrong with an archive, from its directory and the headers of its arrays."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        return "has two arrays of one name"
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(LARGE, RATIO * packed):
        return f"unpacks from {packed:,} bytes to {unpacked:,}; refused as a zip bomb"
    for entry in entries:
        with archive.open(entry) as stream:
            objection = _header_objection(stream, entry)
        if objection:
            return objection
    return None


def _header_objection(stream: IO[bytes], entry: zipfile.ZipInfo) -> str | None:
    name = _name(entry)
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:
        return f"{name!r} is not an array"
    if version not in _HEADERS:  # (3, 0): names of fields, which no input has
        return f"array {name!r} is in version {version} of numpy's format; 1.0 and 2.0 are read"
    shape, _, dtype = _header_of(version, stream)
    if dtype.hasobject:
        return "holds Python objects; only plain arrays are read"
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != entry.file_size - stream.tell():
        return f"array {name!r} is not as long as its shape {shape} takes"
    return None
