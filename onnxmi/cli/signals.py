"""Ctrl-C and SIGTERM: the run is unwound, so that temporary files go, and ended at once where that takes too long."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130  # as shells report a program that Ctrl-C ended
GRACE = 1.0  # seconds that the run has to unwind


_SHOW_CURSOR = b"\x1b[?25h\r\n"  # progress bars hide it


class Interrupted(BaseException):
    """Ctrl-C. Not a KeyboardInterrupt, which click would answer in its own words wherever it comes."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind the stack; end the process if the main thread is still in one call after a while.

    A long call into onnxruntime or linear algebra keeps Python's own handlers waiting. What is ignored stays ignored,
    as for a run in the background. The handlers of the caller come back at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with ExitStack() as restored:
        restored.enter_context(_watched())
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if before is not None and before is not signal.SIG_IGN:
                signal.signal(number, _unwind)
                restored.callback(signal.signal, number, before)
        yield


def end_at_once(number: int, _frame: FrameType | None = None) -> NoReturn:
    """End the process, with nothing but a word to the user: what it was writing, the next run removes."""
    if number == signal.SIGINT:
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + b"onnxmi: error: interrupted\n")
    os._exit(INTERRUPTED if number == signal.SIGINT else 128 + number)


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, end_at_once)  # who asks twice does not want to wait
    if number == signal.SIGINT:
        raise Interrupted
    raise SystemExit(128 + number)


@contextmanager
def _watched() -> Iterator[None]:
    """Have a thread told of signals at the moment they come, while Python waits for a call to return."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(read, done), daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        os.close(write)
        thread.join()
        os.close(read)


def _watch(read: int, done: threading.Event) -> None:
    while came := os.read(read, 1):
        if came[0] in (signal.SIGINT, signal.SIGTERM) and not done.wait(GRACE):
            end_at_once(came[0])
