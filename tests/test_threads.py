"""Linear algebra gets the threads that were asked for, within the block only."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info

from onnxmi.threads import limited


def blas_threads() -> list[int]:
    return [found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"]


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_as_were_asked_for(threads: int) -> None:
    before = blas_threads()
    assert before
    with limited(threads):
        assert set(blas_threads()) == {threads}
    assert blas_threads() == before


def test_none_asked_for_is_none_changed() -> None:
    before = blas_threads()
    with limited(0):
        assert blas_threads() == before
