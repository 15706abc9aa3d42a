"""How many threads are used: within affinity and quota, and one for linear algebra where nothing else is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from onnxmi.runtime import session as runtime
from onnxmi.runtime.threads import available_threads


@pytest.fixture(autouse=True)
def _sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.parametrize(
    ("text", "threads"),
    [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 16)],
)
def test_the_quota_of_a_container_counts(tmp_path: Path, text: str, threads: int) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert available_threads(tmp_path) == threads


@pytest.mark.parametrize(("quota", "threads"), [(-1, 16), (300000, 3), (1000, 1)])
def test_the_quota_of_an_older_container_counts(tmp_path: Path, quota: int, threads: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_threads(tmp_path) == threads


@pytest.mark.parametrize("text", [None, "", "max", "nonsense here"])
def test_without_a_quota_the_affinity_counts(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert available_threads(tmp_path) == 16


def test_deployed_sessions_keep_their_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "available_threads", lambda: 3)
    assert runtime._options(0, optimise=True, spin=False).intra_op_num_threads == 3
    assert runtime._options(5, optimise=True, spin=False).intra_op_num_threads == 5
    assert runtime._options(0, optimise=True, spin=True).intra_op_num_threads == 0


def test_linear_algebra_has_one_thread_unless_more_are_asked_for() -> None:
    def used() -> set[int]:
        np.linalg.inv(np.eye(3))
        return {
            pool["num_threads"]
            for pool in threadpool_info()
            if pool["user_api"] == "blas" and "numpy" in pool["filepath"]
        }

    with runtime.limited(0):
        assert used() == {1}
    with runtime.limited(2):
        assert used() == {2}
