"""Who does the work: processes of this machine, a Dask cluster, or whoever a user hands in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from onnxmi.errors import DataError, UsageError
from onnxmi.execution.dask_cluster import LOCAL, DaskExecutor, connected, is_client
from onnxmi.execution.executor import Executor
from onnxmi.execution.processes import ProcessExecutor
from onnxmi.model.temporary import TemporaryFolder
from onnxmi.typing import AnyPath

SHARDS = 16  # parts that samples are measured in, whoever measures them: the bytes of the sum depend on it


@dataclass(frozen=True)
class Workers:
    """Who does what can be done elsewhere.

    Attributes
    ----------
    executor : Executor
        Runs tasks.
    shards : int
        Parts that samples are measured in. Results depend on it, and not on the number of workers.
    shared : Path or None
        A folder that all workers see, for what they leave each other; None for one beside what is read or written.
    local : bool
        Whether all of them are on this machine.
    latency_worker : str
        Name or address of the worker that times models; "" where this process does.
    """

    executor: Executor
    shards: int = SHARDS
    shared: Path | None = None
    local: bool = False
    latency_worker: str = ""

    @contextmanager
    def scratch(self, beside: Path) -> Iterator[Path]:
        """Yield a folder that all workers see, for the time of the block.

        Parameters
        ----------
        beside : Path
            A file that all of them see.

        Raises
        ------
        DataError
            If no folder can be made there.
        """
        parent = self.shared or (None if self.local else beside.resolve().parent)
        try:
            folder = TemporaryFolder(parent)
        except OSError as error:
            raise DataError(f"{parent}: no folder can be made there: {error.strerror}; give --shared") from error
        with folder as name:
            inner = Path(name).resolve() / "files"  # the outer one is locked as long as it lives, as for a writer
            inner.mkdir()
            yield inner


@contextmanager
def opened_workers(
    workers: object, shards: int = SHARDS, shared: AnyPath | None = None, latency_worker: str | None = None
) -> Iterator[Workers | None]:
    """Yield who does the work.

    Parameters
    ----------
    workers : int, str, distributed.Client, Executor or None
        So many processes of this machine; the address of a Dask scheduler, or `local[:N]`; a client of one; or whatever
        runs tasks as `onnxmi.execution.executor.Executor` says. None for this process alone.
    latency_worker : str, optional
        Name or address of a worker of Dask that times models.

    Raises
    ------
    UsageError
        If it is nothing of that.
    WorkerError
        If they cannot be reached.
    """
    where = None if shared is None else Path(shared)
    if where is not None and not where.is_dir():
        raise UsageError(f"{where}: is not a folder that workers could share")
    if workers is None:
        if latency_worker:
            raise UsageError(_ONLY_DASK)
        yield None
        return
    with _executor(workers) as (executor, local):
        if latency_worker:
            if not isinstance(executor, DaskExecutor):
                raise UsageError(_ONLY_DASK)
            executor.require_worker(latency_worker)
        yield Workers(executor, shards, where, local, latency_worker or "")


_ONLY_DASK = "--latency-worker names a worker of Dask: expected --dask"


@contextmanager
def _executor(workers: object) -> Iterator[tuple[Executor, bool]]:
    """Yield who runs tasks, and whether that is this machine."""
    if isinstance(workers, int) and not isinstance(workers, bool):
        if workers < 1:
            raise UsageError(f"workers: {workers} is out of range: expected 1 or more")
        with ProcessExecutor(workers) as processes:
            yield processes, True
    elif isinstance(workers, str):
        with connected(workers) as cluster:
            yield cluster, workers.startswith(LOCAL)
    elif is_client(workers):
        yield DaskExecutor(workers), False
    elif hasattr(workers, "submit") and hasattr(workers, "as_completed"):
        yield cast(Executor, workers), False
    else:
        raise UsageError(
            f"workers: expected a number, an address or a distributed.Client, not {type(workers).__name__}"
        )
