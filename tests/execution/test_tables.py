"""Rows of a tool's table by workers: the same rows, and a run that was stopped goes on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.execution.tasks import make_squares

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if not TOOLS.is_dir():
        pytest.skip("tools/ is not there")
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    from trials import parts

    yield parts
    for name in [name for name in sys.modules if name.partition(".")[0] == "trials"]:
        del sys.modules[name]


def rows(path: Path) -> list[tuple[int, int]]:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted((row["key"]["number"], row["values"]["square"]) for row in found)


@pytest.mark.parametrize("jobs", [None, 2])
def test_rows_are_the_same_whoever_makes_them(parts: Any, tmp_path: Path, jobs: int | None) -> None:
    path = tmp_path / "squares.jsonl"
    parts.make_rows(path, make_squares, [((3, 5),), ((7,),)], jobs)
    assert rows(path) == [(3, 9), (5, 25), (7, 49)]
    assert list(tmp_path.iterdir()) == [path]
    parts.make_rows(path, make_squares, [((5, 11),), ((3,),)], jobs)
    assert rows(path) == [(3, 9), (5, 25), (7, 49), (11, 121)]


def test_parts_that_are_finished_are_kept(parts: Any, tmp_path: Path) -> None:
    path = tmp_path / "squares.jsonl"
    with pytest.raises(ValueError, match="13 is refused"):
        parts.make_rows(path, make_squares, [((3, 5),), ((13,),)], 1)
    (kept,) = (file for file in (tmp_path / "squares.parts").iterdir() if file.stat().st_size)
    assert rows(kept) == [(3, 9), (5, 25)]
    before = kept.stat().st_mtime_ns
    with pytest.raises(ValueError, match="13 is refused"):
        parts.make_rows(path, make_squares, [((3, 5),), ((13,),)], 1)
    assert kept.stat().st_mtime_ns == before


def test_values_are_divided_where_there_are_workers(parts: Any) -> None:
    assert parts.split((3, 5), by=2) == [(3,), (5,)]
    assert parts.split((3, 5), by=None) == [(3, 5)]
