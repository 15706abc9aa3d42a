"""Progress of long work, on standard error: one line on a terminal; elsewhere, lines that a log keeps."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from onnxmi.pruning.stages import Stage
from onnxmi.reporting.clock import Clock
from onnxmi.typing import Progress, silent

SECONDS_BETWEEN_LINES = 30.0
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
def progress_bars(stages: Sequence[Stage] = ()) -> Iterator[Progress]:
    """Yield what the pipeline calls while it works.

    On a terminal one line shows where the whole run is, and vanishes at the end. Elsewhere a line comes every half
    minute, and on request one for each stage.

    Parameters
    ----------
    stages : sequence of Stage
        Those that are expected, in order.
    """
    clock = Clock(stages)
    if _LEVEL.get() < 0:
        yield silent
    elif _LEVEL.get() > 0 or not sys.stderr.isatty():
        with _Ticker(clock):
            yield _lines(clock) if _LEVEL.get() > 0 else _counted(clock)
    else:
        with _bar() as bar:
            task = bar.add_task(clock.line, total=1.0, rest="")

            def advance(stage: str, done: float, total: float) -> None:
                begins = clock.advance(stage, done, total)
                bar.update(task, completed=clock.share, description=clock.line, rest=clock.rest, refresh=begins)

            yield advance


def _bar() -> Bars:
    """Return a bar that shows one line for the whole run."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[rest]}"),
        console=Console(stderr=True),
        transient=True,
    )


def _counted(clock: Clock) -> Progress:
    """Return what tells the clock alone."""

    def advance(stage: str, done: float, total: float) -> None:
        clock.advance(stage, done, total)

    return advance


def _lines(clock: Clock) -> Progress:
    """Return what prints a line when a stage begins, too."""

    def advance(stage: str, done: float, total: float) -> None:
        if clock.advance(stage, done, total):
            _print(clock)

    return advance


def _print(clock: Clock) -> None:
    rest = f", {clock.rest}" if clock.rest else ""
    print(f"onnxmi: {clock.elapsed:.1f} s: {clock.line}{rest}", file=sys.stderr, flush=True)


class _Ticker:
    """Prints where a run is every half minute, however long its steps take."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(SECONDS_BETWEEN_LINES):
            _print(self._clock)
