"""Progress of long work, on standard error: bars on a terminal; on request, lines that a log keeps."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from onnxmi.typing import Progress, silent

_LEVEL: ContextVar[int] = ContextVar("level", default=0)


@contextmanager
def verbosity(level: int) -> Iterator[None]:
    """Say within the block nothing (-1), what a terminal shows (0), or a line for each stage (1)."""
    token = _LEVEL.set(level)
    try:
        yield
    finally:
        _LEVEL.reset(token)


def is_verbose() -> bool:
    """Whether everything is to be said."""
    return _LEVEL.get() > 0


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield what the pipeline calls while it works; the bars vanish at the end."""
    if _LEVEL.get() > 0:
        yield _lines()
        return
    if _LEVEL.get() < 0 or not sys.stderr.isatty():
        yield silent
        return
    bars = Bars(
        TextColumn("{task.description:>8}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, TaskID] = {}

    def advance(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage)
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield advance


def _lines() -> Progress:
    """Return what prints a line when a stage begins."""
    begun: set[str] = set()
    start = time.monotonic()

    def advance(stage: str, _done: int, total: int) -> None:
        if stage not in begun:
            begun.add(stage)
            print(f"onnxmi: {time.monotonic() - start:.1f} s: {stage} ({total})", file=sys.stderr, flush=True)

    return advance
