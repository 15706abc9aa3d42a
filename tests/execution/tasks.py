"""Tasks for tests: functions that worker processes import."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from onnxmi.errors import CalibrationError

ARRAYS, ARRAY_BYTES = 53, 1 << 20


def square(number: int) -> int:
    return number * number


def process_id(_number: int) -> int:
    return os.getpid()


def slow_first(number: int) -> int:
    time.sleep(0.5 if number == 0 else 0.0)
    return number


def refuses(number: int) -> int:
    raise CalibrationError(f"sample {number} is wrong")


def fails_oddly(number: int) -> int:
    class Odd(Exception):  # noqa: N818  it cannot be sent
        pass

    raise Odd(str(number))


def dies_once(number: int, folder: str) -> int:
    """Kill the process as a machine without memory does, the first time."""
    mark = Path(folder) / str(number)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleeps(folder: str, seconds: float) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(seconds)


def make_squares(numbers: tuple[int, ...], records: Any) -> None:
    """Make rows of a table as a tool does."""
    for number in numbers:
        if number == 13:
            raise ValueError("13 is refused")
        records.ensure({"number": number}, lambda square=number**2: {"square": square})


def page_faults() -> int:
    """Make and drop arrays one after the other; return how many pages the system gave this process meanwhile."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ARRAYS):
        np.ones(ARRAY_BYTES, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
