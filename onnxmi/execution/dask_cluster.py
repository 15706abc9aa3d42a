"""A Dask scheduler and its workers. Tasks are small and name files; no array goes through the scheduler.

TLS, timeouts and the rest are Dask's own configuration.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from time import monotonic
from typing import Any

from onnxmi.errors import UsageError
from onnxmi.execution.allocation import keep_freed_memory
from onnxmi.execution.dask_local import bring_back, local_client
from onnxmi.execution.executor import TRIES, Handle, Task, WorkerError
from onnxmi.execution.versions import own_versions, require_same
from onnxmi.runtime.threads import available_threads

SECONDS_TO_CONNECT = 10
SECONDS_TO_LEAVE = 3
SECONDS_TO_FETCH = 5
SECONDS_BETWEEN_LOOKS = 0.02, 0.2  # the fewest and the most
SECONDS_BETWEEN_QUESTIONS = 5.0
SECONDS_WITHOUT_WORKERS = 300.0  # for a queue that gives new ones
LOCAL = "local"
GONE = "the Dask scheduler is gone; what is finished is kept, and the same command goes on from there"


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise UsageError("--dask needs Dask: pip install 'onnxmi[dask]'") from error


def is_client(workers: object) -> bool:
    """Whether an object is a `distributed.Client`; nothing is imported to find out."""
    return any(one.__module__.startswith("distributed.") and one.__name__ == "Client" for one in type(workers).__mro__)


@contextmanager
def connected(place: str) -> Iterator[DaskExecutor]:
    """Yield an executor for a scheduler's address, or `local[:N]` for processes of this machine.

    Raises
    ------
    WorkerError
        If nobody answers there, or there are no workers.
    """
    distributed = _distributed()
    _quiet()
    local = re.fullmatch(rf"{LOCAL}(?::(\d+))?", place)
    if local is not None:
        with local_client(max(int(local[1] or available_threads()), 1)) as own:
            yield DaskExecutor(own, tend=bring_back)
        return
    try:
        client = distributed.Client(place, timeout=SECONDS_TO_CONNECT, name="onnxmi")
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise WorkerError(f"--dask {place}: cannot be reached: {' '.join(str(error).split())[:160]}") from error
    try:
        yield DaskExecutor(client)
    finally:
        with suppress(Exception):  # a scheduler that is gone cannot be taken leave of
            client.close(timeout=SECONDS_TO_LEAVE)


def _quiet() -> None:
    """Leave it to this package to say what happened to the connection."""
    logging = import_module("logging")
    for name in ("distributed", "distributed.client", "distributed.comm", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@dataclass(eq=False)
class _Handle:
    task: Task
    key: str
    future: Any = None
    tries: int = 0

    value: Any = None

    def fetch(self) -> bool:
        """Fetch what the task returned; False where it went with its worker, so that the scheduler has it done again.

        Who only waited for it would wait forever where no worker is left.
        """
        if self.future.status == "error":
            return True
        try:
            self.value = self.future.result(timeout=SECONDS_TO_FETCH)
        except TimeoutError:
            return False
        except (concurrent.futures.CancelledError, asyncio.CancelledError, OSError) as error:
            # It ended well, and what it returned cannot be fetched any more.
            raise WorkerError(GONE) from error
        except Exception:
            if self.future.status == "error":  # the second time: that is looked at as any other end
                return False
            raise
        return True

    def result(self) -> Any:
        if self.future.status != "error":
            return self.value
        try:
            return self.future.result()
        except (concurrent.futures.CancelledError, asyncio.CancelledError) as error:
            raise WorkerError(GONE) from error


@dataclass(eq=False)
class DaskExecutor:
    """Runs tasks on the workers of a `distributed.Client`.

    Attributes
    ----------
    client : distributed.Client
        Its owner closes it.
    tries : int
        Times that a task is started whose workers die, beyond what the scheduler allows by itself.
    tend : callable(client), optional
        Called now and then while tasks are waited for.
    """

    client: Any
    tries: int = TRIES
    tend: Callable[[Any], None] | None = None
    _token: str = field(default_factory=lambda: f"0{uuid.uuid4().hex[:11]}")
    _count: int = 0

    def __post_init__(self) -> None:
        """Refuse workers that would give other results."""
        try:
            there = self.client.run(_seen, on_error="return")
        except (OSError, TimeoutError) as error:
            raise WorkerError(GONE) from error
        if not there:
            raise WorkerError("the Dask scheduler has no workers")
        for seen in there.values():
            if isinstance(
                seen, OSError
            ):  # it has just gone; whoever comes in its place is looked at with its first task
                continue
            if isinstance(seen, Exception):  # as of a package that is not installed there
                raise WorkerError(f"a worker cannot run what this version sends: {seen}") from seen
            require_same(own_versions(), *seen)

    def require_worker(self, asked: str) -> None:
        """Look for one certain worker.

        Raises
        ------
        WorkerError
            If there is none of that name or address, naming those that there are.
        """
        there = workers_of(self.client)
        if asked not in {*there, *map(str, there.values())}:
            names = ", ".join(sorted(map(str, there.values())))
            raise WorkerError(f"--latency-worker {asked}: no worker has this name or address; there are {names}")

    def submit(self, task: Task) -> Handle:
        """Hand in a task. Its key begins with its name, by which a dashboard groups tasks, and is used once."""
        self._count += 1
        handle = _Handle(task, f"{task.name.replace(' ', '-')}-{self._token}-{self._count}")
        self._start(handle)
        return handle

    def _start(self, handle: _Handle) -> None:
        handle.tries += 1
        function, arguments = handle.task.function, handle.task.arguments
        how: dict[str, Any] = {"key": f"{handle.key}-{handle.tries}", "pure": False}
        try:
            if handle.task.worker:
                how["workers"] = _addresses(workers_of(self.client), handle.task.worker) or [handle.task.worker]
            handle.future = self.client.submit(_call, own_versions(), function, arguments, **how)
        except (OSError, TimeoutError, RuntimeError) as error:
            raise WorkerError(GONE) from error

    def as_completed(self, handles: Sequence[Handle]) -> Iterator[Handle]:
        """Yield handles as their tasks end; cancel the others where that is not waited for."""
        own = [handle for handle in handles if isinstance(handle, _Handle)]
        watch = _Watch(self.client, {handle.task.worker for handle in own} - {""}, self.tend)
        pause, longest = SECONDS_BETWEEN_LOOKS
        try:
            while own:
                # The status of a future is kept on this side: to look at it costs no message. What is lost with a
                # worker that had finished it, the scheduler has done once more.
                ended = [handle for handle in own if handle.future.status not in ("pending", "lost")]
                waiting = len(own)
                for handle in ended:
                    if self._is_to_be_repeated(handle):
                        self._start(handle)
                    elif handle.fetch():
                        own.remove(handle)
                        yield handle
                if len(own) < waiting:
                    pause, _ = SECONDS_BETWEEN_LOOKS
                    continue
                watch.look()
                time.sleep(pause)
                pause = min(1.2 * pause, longest)
        except (Exception, GeneratorExit):  # after Ctrl-C there is no time to ask: the marker stops what runs
            with suppress(Exception):
                self.client.cancel([handle.future for handle in own], force=True)
            raise

    def _is_to_be_repeated(self, handle: _Handle) -> bool:
        """Whether a task ended without an answer of its own because workers died."""
        if handle.future.status == "cancelled":
            raise WorkerError(GONE)
        if handle.future.status != "error":
            return False
        error = handle.future.exception()
        if isinstance(error, concurrent.futures.CancelledError):
            raise WorkerError(GONE) from error
        if type(error).__name__ != "KilledWorker":
            return False
        if handle.tries >= self.tries:
            raise WorkerError(
                f"{handle.task.name}: its workers were killed again and again, perhaps for lack of memory; what is"
                " finished is kept"
            ) from error
        return True


class _Watch:
    """Notices that nobody is left to wait for."""

    def __init__(self, client: Any, needed: Collection[str] = (), tend: Callable[[Any], None] | None = None) -> None:
        self._client, self._looked, self._needed, self._tend = client, monotonic(), needed, tend
        self._deserted: float | None = None  # since when

    def look(self) -> None:
        """Ask the scheduler for its workers, now and then.

        Raises
        ------
        WorkerError
            If it is gone, or has had no worker, or not the one that is needed, for `SECONDS_WITHOUT_WORKERS`.
        """
        if monotonic() < self._looked + SECONDS_BETWEEN_QUESTIONS:
            return
        try:
            if self._client.status != "running":
                raise OSError("the connection is lost")
            if self._tend is not None:
                self._tend(self._client)
            deserted = not (self._all_there() if self._needed else self._client.nthreads())
        except (OSError, TimeoutError) as error:
            raise WorkerError(GONE) from error
        self._looked = monotonic()
        self._deserted = (self._deserted or self._looked) if deserted else None
        if self._deserted is not None and self._looked > self._deserted + SECONDS_WITHOUT_WORKERS:
            lost = "worker of --latency-worker" if self._needed else "workers"
            raise WorkerError(f"the Dask scheduler has no {lost} any more; what is finished is kept")

    def _all_there(self) -> bool:
        there = workers_of(self._client)
        return all(_addresses(there, worker) for worker in self._needed)


def workers_of(client: Any) -> dict[str, object]:
    """Return address -> name of the workers."""
    there = client.run(_name, on_error="return")
    return {address: name for address, name in there.items() if not isinstance(name, Exception)}


def _name(dask_worker: Any) -> object:
    return dask_worker.name


def _addresses(there: Mapping[str, object], worker: str) -> list[str]:
    """Return the addresses at which a worker of a name, or of an address, is: a guardian starts it at another one."""
    return [address for address, name in there.items() if worker in (address, str(name))]


def _seen() -> tuple[dict[str, str], str]:
    """Return a worker's versions and name."""
    return own_versions(), f"on {socket.gethostname()}"


def _call(versions: Mapping[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Run a task on a worker, which may have come after the others were looked at."""
    require_same(versions, *_seen())
    keep_freed_memory()
    return function(*arguments)
