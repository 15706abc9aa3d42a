"""Options that say who does the work: this process, others of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from onnxmi.errors import UsageError
from onnxmi.execution.choose import SHARDS, Workers, opened_workers

_SHARDS = click.option(
    "--shards",
    type=click.IntRange(min=1),
    default=SHARDS,
    show_default=True,
    help="With --jobs or --dask: parts that samples are measured in. The statistics depend on it, not on the workers.",
)
_WHO = (
    click.option(
        "--jobs", type=click.IntRange(min=1), metavar="N", help="Share the work out among N processes of this machine."
    ),
    click.option(
        "--dask",
        metavar="ADDRESS|local[:N]",
        help="Share it out among the workers of a Dask scheduler, or N of this machine (extra `dask`).",
    ),
    click.option(
        "--shared",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="A folder that all workers see [default: where the result is written].",
    ),
)

_LATENCY_WORKER = click.option(
    "--latency-worker",
    metavar="NAME|ADDRESS",
    help="With --dask: the worker that times models, on the machine that they are for [default: this machine].",
)


@dataclass(frozen=True)
class Choice:
    """Who was chosen to do the work."""

    jobs: int | None
    dask: str | None
    shared: Path | None
    shards: int = SHARDS
    latency_worker: str | None = None

    @staticmethod
    def taken(settings: dict[str, Any]) -> Choice:
        """Take the options out of a command's settings."""
        names = [name for name in ("jobs", "dask", "shared", "shards", "latency_worker") if name in settings]
        choice = Choice(**{name: settings.pop(name) for name in names})
        if choice.jobs is not None and choice.dask is not None:
            raise UsageError("--jobs and --dask contradict each other")
        return choice

    @property
    def who(self) -> int | str | None:
        """So many processes, or the address of a cluster; None for this process alone."""
        return self.jobs if self.dask is None else self.dask

    @contextmanager
    def opened(self) -> Iterator[Workers | None]:
        """Yield the workers; None for this process alone."""
        with opened_workers(self.who, self.shards, self.shared, self.latency_worker) as workers:
            yield workers


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options."""
    for option in reversed(_WHO):
        command = option(command)
    return command


def timing_worker_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option for a command that times models."""
    return _LATENCY_WORKER(command)


def shard_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for a command that measures statistics."""
    return worker_options(_SHARDS(command))
