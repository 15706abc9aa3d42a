"""Progress bars for long work: one a stage, on standard error, and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from onnxmi.capture import Progress as Advance
from onnxmi.capture import silent


@contextmanager
def progress_bars() -> Iterator[Advance]:
    """Yield what the pipeline calls while it works; the bars vanish at the end."""
    if not sys.stderr.isatty():
        yield silent
        return
    bars = Progress(
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
