"""How a worker's memory is allocated.

Dask starts workers with `MALLOC_TRIM_THRESHOLD_`, so that memory goes back to the system at once. With any value of it,
glibc stops adapting: each array of more than 128 KiB is mapped, filled with zeros and unmapped again. That makes a cut
with repair take half as much processor time again.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache

ENVIRONMENT = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGE = 2**25  # bytes: the most that glibc adapts to by itself


@cache
def keep_freed_memory() -> None:
    """Let this process reuse what it frees, as glibc does without these variables. Other C libraries are left alone."""
    if not any(name in os.environ for name in ENVIRONMENT):
        return
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGE)
        mallopt(_TRIM_THRESHOLD, 2 * LARGE)
