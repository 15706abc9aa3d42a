"""Temporary folders that do not outlive their owner for long: what a killed run leaves, the next one removes.

A folder is locked as long as its owner lives, and the system lets go of the lock however the owner ends. So whoever
gets the lock of a folder knows that nobody needs it: no process numbers, which are given out again, and no times.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: nothing is locked there, and what a killed run leaves stays
    fcntl = None  # type: ignore[assignment]

PREFIX, SUFFIX = ".onnxmi-", ".tmp"


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """A folder that is removed at the end, when it is collected, or by the next one made beside it.

    Parameters
    ----------
    parent : path, optional
        Where it is made; by default the system's place for temporary files.

    Raises
    ------
    OSError
        If it cannot be made.
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        parent = tempfile.gettempdir() if parent is None else os.fspath(parent)
        _sweep(parent)
        while True:
            super().__init__(prefix=PREFIX, suffix=SUFFIX, dir=parent, ignore_cleanup_errors=True)
            with suppress(BlockingIOError):
                lock = _locked(self.name)
                if lock is not None:
                    self._unlock = weakref.finalize(self, os.close, lock)
                if os.path.isdir(self.name):
                    return
            # Another process has swept it before it was locked: the next one.


@contextmanager
def exclusive(folder: str) -> Iterator[None]:
    """Wait until no other process is in here for the same folder; where folders cannot be locked, do not wait."""
    descriptor = None
    if fcntl is not None:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _sweep(parent: str) -> None:
    """Remove the folders of this user in `parent` whose owners are gone."""
    with suppress(OSError):
        for path in sorted(Path(parent).glob(f"{PREFIX}*{SUFFIX}")):
            with suppress(BlockingIOError):
                lock = _locked(path)
                if lock is None:
                    continue
                if os.fstat(lock).st_uid == os.geteuid():
                    shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _locked(path: str | Path) -> int | None:
    """Lock a folder until the descriptor is closed; None if it cannot be. Raises BlockingIOError where it is locked."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None  # a file system without locks
    return descriptor
