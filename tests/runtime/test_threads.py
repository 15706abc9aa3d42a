"""Linear algebra gets the threads that were asked for, within the block only."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_info

from onnxmi.runtime.session import limited


def blas_threads() -> list[int]:
    """Of the library that numpy has; scipy brings one of its own, and tests import that."""
    found = [one for one in threadpool_info() if one["user_api"] == "blas" and "numpy" in one["filepath"]]
    return [one["num_threads"] for one in found]


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_as_were_asked_for(threads: int) -> None:
    before = blas_threads()
    if not before:
        pytest.skip("numpy's linear algebra is not in a library of its own here")
    with limited(threads):
        assert set(blas_threads()) == {threads}
    assert blas_threads() == before


def test_none_asked_for_is_none_changed() -> None:
    before = blas_threads()
    with limited(0):
        assert blas_threads() == before
