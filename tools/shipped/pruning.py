"""One run of the command line: what it took, and what it said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

KIB = 1 << 10
GIB = 1 << 30
TIMED_OUT = -1
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
FIXED_ARMS: dict[str, tuple[str, ...]] = {"default": ()}
BUDGET = re.compile(r"(speedup|macs|params|keep|max-drop)([0-9.]+)")


@dataclass(frozen=True)
class Spent:
    """What a run of the command line took; `exit_code` is TIMED_OUT if it was stopped.

    `wall_s` and `cpu_s` are seconds, `peak_gib` is the largest resident size.
    """

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_gib: float
    said: str


def options(arm: str) -> tuple[str, ...]:
    """What an arm adds to the command line: `default` nothing, `speedup2` the option `--speedup 2`, and so on."""
    budget = BUDGET.fullmatch(arm)
    if budget:
        return f"--{budget[1]}", budget[2]
    if arm not in FIXED_ARMS:
        raise ValueError(f"no arm {arm!r}: it is default, or speedup, macs, params, keep or max-drop and a number")
    return FIXED_ARMS[arm]


def run(command: list[str], log: Path, limit_s: float) -> Spent:
    """Run to the end or the limit; what it prints goes to `log`."""
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        child = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **ONE_THREAD}, start_new_session=True
        )
        clock = threading.Timer(limit_s, os.killpg, (child.pid, signal.SIGKILL))
        clock.start()
        _, status, usage = os.wait4(child.pid, 0)
        clock.cancel()
    code = os.waitstatus_to_exitcode(status)
    child.returncode = code  # it has been waited for
    return Spent(
        exit_code=TIMED_OUT if code == -signal.SIGKILL else code,
        wall_s=time.monotonic() - start,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_gib=usage.ru_maxrss * KIB / GIB,
        said=log.read_text(encoding="utf-8", errors="replace"),
    )
