"""The user's cache folder: where times and measurements are kept between runs. It can be deleted at any time."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "ONNXMI_CACHE"  # set in the environment, it is where the folder is


def cache_folder() -> Path:
    """Return the cache folder, whether it is there or not.

    A user without a home, as in a container, has none: nothing can be read from or written to what is returned then.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onnxmi"
    except RuntimeError:
        return Path(os.devnull) / "onnxmi"


@dataclass(frozen=True)
class CacheEntry:
    """One file or folder of the cache.

    Attributes
    ----------
    path : Path
        Where it is.
    size : int
        Bytes.
    used : float
        When it was last written or used, in seconds since 1970.
    """

    path: Path
    size: int
    used: float


def cache_entries(folder: Path) -> list[CacheEntry]:
    """Return what lies in a folder of the cache, the one that was used last first; nothing where it is missing."""
    try:
        paths = list(folder.iterdir())
    except OSError:
        return []
    entries = [_entry(path) for path in paths]
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: (-entry.used, entry.path))


def remove_entry(entry: CacheEntry) -> None:
    """Remove an entry; one that cannot be removed stays."""
    if entry.path.is_dir():
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        entry.path.unlink(missing_ok=True)


def _entry(path: Path) -> CacheEntry | None:
    try:
        files = [one.stat() for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path.stat()]
    except OSError:  # another process removes it
        return None
    return CacheEntry(path, sum(one.st_size for one in files), max((one.st_mtime for one in files), default=0.0))
