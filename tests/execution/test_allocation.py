"""Workers that give freed memory back at once let the system fill every array with zeros again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.execution import tasks

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

PAGES = tasks.ARRAYS * tasks.ARRAY_BYTES // 4096


def faults(prepare: str, variables: dict[str, str]) -> int:
    """Pages that a new process gets from the system for arrays that it makes and drops."""
    program = f"{prepare}\nfrom tests.execution import tasks\nprint(tasks.page_faults())"
    run = [sys.executable, "-c", program]
    return int(subprocess.run(run, env={**os.environ, **variables}, check=True, capture_output=True).stdout)


def test_freed_memory_is_used_again() -> None:
    as_dask_starts = {"MALLOC_TRIM_THRESHOLD_": "65536"}
    ours = "from onnxmi.execution.allocation import keep_freed_memory as keep\nkeep()"
    assert faults("", as_dask_starts) > PAGES / 2
    assert faults(ours, as_dask_starts) < PAGES / 10
