"""What the rest of the package knows of other processes and machines: tasks go out, results come back in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from onnxmi.errors import DataError
from onnxmi.typing import Progress

TRIES = 10  # times that a task is started whose worker dies


class WorkerError(DataError):
    """Workers cannot be used, or went away; what is finished is kept."""


@dataclass(frozen=True)
class Task:
    """A call of one of this package's functions.

    Attributes
    ----------
    name : str
        Of its stage: what a dashboard shows.
    function : callable
        Of a module, so that a worker can import it: no code travels.
    arguments : tuple
        Small: files are named, not sent. The task may be run twice, and has to leave the same then.
    worker : str
        Name or address of the only worker that may run it; "" for any of them.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    worker: str = ""


class Handle(Protocol):
    """A task that was handed in."""

    @property
    def task(self) -> Task:
        """The task."""

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised. Only when completed."""


class Executor(Protocol):
    """Runs tasks somewhere else.

    A task whose worker dies is started again, up to `TRIES` times.
    """

    def submit(self, task: Task) -> Handle:
        """Hand in a task."""

    def as_completed(self, handles: Sequence[Handle]) -> Iterator[Handle]:
        """Yield handles as their tasks end.

        Raises
        ------
        WorkerError
            If there is nobody left to run them.
        """


def run_all(executor: Executor, tasks: Sequence[Task], progress: Progress) -> list[Any]:
    """Run tasks and return their results in the order of the tasks.

    Raises
    ------
    Exception
        Whatever a task raises first.
    """
    results = dict(as_they_end(executor, tasks, progress))
    return [results[place] for place in range(len(tasks))]


def as_they_end(executor: Executor, tasks: Sequence[Task], progress: Progress) -> Iterator[tuple[int, Any]]:
    """Run tasks and yield the place of each among them with its result, in any order.

    Raises
    ------
    Exception
        Whatever a task raises first.
    """
    handles = [executor.submit(task) for task in tasks]
    places = {id(handle): place for place, handle in enumerate(handles)}
    for name in dict.fromkeys(task.name for task in tasks):
        progress(name, 0, len(tasks))
    for done, handle in enumerate(executor.as_completed(handles), start=1):
        result = handle.result()
        progress(handle.task.name, done, len(tasks))
        yield places[id(handle)], result
