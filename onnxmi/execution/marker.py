"""A file that is there as long as a run goes on: workers on any machine that sees it stop when it is gone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from onnxmi.errors import DataError
from onnxmi.typing import Progress

SECONDS = 0.5  # between two looks


class AbandonedError(DataError):
    """Whoever asked for the work does not want it any more."""


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """Mark a run for the time of the block."""
    with tempfile.NamedTemporaryFile(prefix=".running-", dir=folder, delete=False) as file:
        marker = Path(file.name)
    try:
        yield marker
    finally:
        with suppress(OSError):
            marker.unlink()


def while_running(marker: Path) -> Progress:
    """Return what long work calls at every step: it raises `AbandonedError` when the marker is gone."""
    looked = monotonic()

    def advance(_stage: str, _done: float, _total: float) -> None:
        nonlocal looked
        if monotonic() < looked + SECONDS:
            return
        looked = monotonic()
        require_running(marker)

    return advance


def require_running(marker: Path) -> None:
    """Raise AbandonedError where the marker is gone: before a task begins, for example."""
    if not marker.exists():
        raise AbandonedError(f"{marker.parent}: the run has ended, or this worker does not see its folder")
