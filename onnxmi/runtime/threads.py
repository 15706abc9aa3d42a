"""How many threads this process may use: what the scheduler and the container allow, not what the machine has."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


@cache
def available_threads(root: Path = CGROUP) -> int:
    """Return how many processors the process may use at once: those of its affinity, within its container's quota.

    Parameters
    ----------
    root : path
        Where control groups are mounted.

    Returns
    -------
    int
        At least 1. A quota of 1.5 processors counts as 2.
    """
    scheduled = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return max(scheduled if quota is None else min(scheduled, -int(-quota // 1)), 1)


def _quota(root: Path) -> float | None:
    """Return the processors that the control group may use, by the files of version 2 or 1; None without a limit."""
    with suppress(OSError, ValueError):
        most, every = (root / "cpu.max").read_text(encoding="ascii").split()
        return None if most == "max" else int(most) / int(every)
    with suppress(OSError, ValueError):
        quota, period = (
            int((root / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        return quota / period if quota > 0 else None
    return None
