"""The files of a source: on this machine, or at an address of object storage, from where only those that are read come.

An address is whatever fsspec opens, such as s3://bucket/samples or gs://bucket/samples.parquet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from onnxmi.data.sources.request import require_extra
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model.temporary import TemporaryFolder

# A path has lost one of the two slashes. One letter is a drive, and not a protocol.
_ADDRESS = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/+)(?P<rest>.+)")
_DEPTH = 2  # of folders that are looked into


def address_of(path: str | os.PathLike[str]) -> str | None:
    """Return the address that a path is, or None where it is a path of this machine."""
    text = os.fspath(path)
    form = _ADDRESS.fullmatch(text)
    if form is None or Path(text).exists():
        return None
    absolute = form["protocol"] == "file" or len(form["slashes"]) > 2
    return f"{form['protocol']}://{'/' if absolute else ''}{form['rest']}"


@dataclass(frozen=True)
class Fetched:
    """Files that can be read by their paths.

    Attributes
    ----------
    source : Path
        The folder that they are in, or the only file.
    paths : tuple of Path
        The files.
    held : object
        What has to be kept as long as they are read.
    """

    source: Path
    paths: tuple[Path, ...]
    held: object = None


class SourceFiles(Protocol):
    """What a source consists of, by paths inside it."""

    @property
    def where(self) -> str:
        """The source, for messages."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder; a file has one path inside, without a name."""

    def names(self, depth: int) -> list[PurePosixPath]:
        """Return the files in the folder (1), or in its folders (2), sorted; without hidden ones."""

    def size(self, name: PurePosixPath) -> int:
        """Bytes of a file."""

    def fetch(self, names: Sequence[PurePosixPath]) -> Fetched:
        """Make files readable."""


def files_of(path: Path) -> SourceFiles:
    """Look at what a source consists of.

    Raises
    ------
    CalibrationError
        If an address cannot be looked at.
    UsageError
        If a package is needed for it.
    """
    address = address_of(path)
    return _LocalFiles(path) if address is None else _RemoteFiles.at(address)


@dataclass(frozen=True)
class _LocalFiles:
    """Files of this machine, which are read where they are."""

    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    def names(self, depth: int) -> list[PurePosixPath]:
        pattern = "/".join("*" * depth)
        inner = {file: PurePosixPath(file.relative_to(self.path).as_posix()) for file in self.path.glob(pattern)}
        return sorted(name for file, name in inner.items() if not _is_hidden(name) and file.is_file())

    def size(self, name: PurePosixPath) -> int:
        return (self.path / name).stat().st_size

    def fetch(self, names: Sequence[PurePosixPath]) -> Fetched:
        return Fetched(self.path, tuple(self.path / name for name in names))


@dataclass(frozen=True)
class _RemoteFiles:
    """Files at an address, which are copied into a temporary folder when they are needed.

    Attributes
    ----------
    system : fsspec file system
        Opens them.
    root : str
        What it calls the source.
    listed : mapping
        Path inside the source -> what it calls the file, and its bytes.
    """

    where: str
    is_folder: bool
    system: Any
    root: str
    listed: Mapping[PurePosixPath, tuple[str, int]]

    @staticmethod
    def at(address: str) -> _RemoteFiles:
        system, root = _opened(address)
        try:
            is_folder = not system.isfile(root)
            found: dict[str, Any] = system.find(root, maxdepth=_DEPTH, detail=True)
        except Exception as error:  # whatever a file system of fsspec raises
            raise _unreadable(address, error) from error
        listed = {PurePosixPath(name[len(root) :].strip("/")): (name, int(one["size"])) for name, one in found.items()}
        return _RemoteFiles(address, is_folder, system, root, listed)

    def names(self, depth: int) -> list[PurePosixPath]:
        return sorted(name for name in self.listed if len(name.parts) == depth and not _is_hidden(name))

    def size(self, name: PurePosixPath) -> int:
        return self.listed[name][1]

    def fetch(self, names: Sequence[PurePosixPath]) -> Fetched:
        folder = TemporaryFolder()
        paths = [Path(folder.name) / (name if self.is_folder else PurePosixPath(self.root).name) for name in names]
        try:
            for name, path in zip(names, paths, strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                self.system.get_file(self.listed[name][0], str(path))
        except Exception as error:  # whatever a file system of fsspec raises
            raise _unreadable(self.where, error) from error
        return Fetched(Path(folder.name) if self.is_folder else paths[0], tuple(paths), folder)


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _opened(address: str) -> tuple[Any, str]:
    fsspec = require_extra("fsspec", "remote", "samples at an address")
    try:
        system, root = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:  # a package for the protocol is missing, or there is no such protocol
        raise UsageError(f"{address}: {error}") from error
    return system, root.rstrip("/")


def _unreadable(address: str, error: Exception) -> CalibrationError:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return CalibrationError(f"{address}: cannot be read: {why}")


def pieces_of(files: SourceFiles, names: Iterable[PurePosixPath]) -> list[tuple[str, int]]:
    """Name and bytes of each file of a source, wherever its folder is mounted or stored."""
    return [(name.as_posix() if files.is_folder else "", files.size(name)) for name in names]
