"""Threads of linear algebra: as many as onnxruntime gets, where the user says how many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy  # noqa: F401  its libraries have to be loaded to be found
from threadpoolctl import ThreadpoolController

_LIBRARIES = ThreadpoolController()


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let numpy's linear algebra use so many threads within the block; 0 leaves it its choice.

    On a busy machine its threads and onnxruntime's wait for each other: a run can take ten times as long.
    """
    if not threads:
        yield
        return
    with _LIBRARIES.limit(limits=threads, user_api="blas"):
        yield
