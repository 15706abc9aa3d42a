"""Rows of a table by many workers: each part of them has a file of its own, and is then added to the table's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from onnxmi.execution.choose import opened_workers
from onnxmi.execution.executor import Task, run_all
from onnxmi.typing import silent
from trials.records import Records

Make = Callable[..., None]  # (*arguments, records): makes the rows of one part that are not there yet

TOOLS = Path(__file__).resolve().parent.parent


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say who makes the rows."""
    jobs = click.option("--jobs", type=click.IntRange(min=1), help="Processes of this machine [default: this one].")
    dask = click.option("--dask", metavar="ADDRESS|local[:N]", help="A Dask scheduler, whose workers see all files.")
    return jobs(dask(command))


def split(values: Sequence[Any], *, by: object) -> list[tuple[Any, ...]]:
    """Divide values into one for each part where there are workers; together they share what they measure."""
    return [(value,) for value in values] if by else [tuple(values)]


def make_rows(
    path: Path, make: Make, parts: Sequence[tuple[Any, ...]], jobs: int | None = None, dask: str | None = None
) -> None:
    """Make the rows of all parts: one after the other here, or in any order by workers.

    A run that was stopped goes on, whoever did the work: rows that are there are not made again.
    """
    if jobs is None and dask is None:
        for part in parts:
            make(*part, Records(path))
        return
    folder = path.with_suffix(".parts").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{hashlib.sha256(repr(part).encode()).hexdigest()[:24]}.jsonl" for part in parts]
    tasks = [
        Task(path.stem, make_part, (make, part, str(path.resolve()), str(file)))
        for part, file in zip(parts, files, strict=True)
    ]
    let_workers_import()
    with opened_workers(jobs if dask is None else dask) as workers:
        assert workers is not None
        run_all(workers.executor, tasks, silent)
    total = Records(path)
    for file in files:
        total.add_all(Records(file))
        file.unlink(missing_ok=True)
    folder.rmdir()


def make_part(make: Make, part: tuple[Any, ...], path: str, file: str) -> None:
    """Make the rows of one part; a task."""
    make(*part, Records(Path(file), known=Records(Path(path))))


def let_workers_import() -> None:
    """Let worker processes of this machine find these tools; on others, PYTHONPATH has to."""
    paths = [str(TOOLS), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
