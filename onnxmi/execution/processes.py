"""Worker processes on this machine, from the standard library alone.

Each has a pipe of its own, so that the death of one is the loss of one task, which another process then begins anew.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from onnxmi.errors import InvariantError
from onnxmi.execution.executor import TRIES, Handle, Task, WorkerError

_SPAWN = get_context("spawn")  # a fork would copy onnxruntime's locks without the threads that hold them


@dataclass(eq=False)
class _Handle:
    task: Task
    tries: int = 0
    answer: tuple[bool, Any] | None = None

    def result(self) -> Any:
        assert self.answer is not None
        fine, value = self.answer
        if not fine:
            raise value
        return value


@dataclass(eq=False)
class _Worker:
    """A process, both ends that the parent holds, and what it is at."""

    process: Any
    pipe: Connection
    lifeline: Connection
    at: _Handle | None = None

    @staticmethod
    def start() -> _Worker:
        pipe, theirs = _SPAWN.Pipe()
        ends_with_us, lifeline = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=_work, args=(theirs, ends_with_us), daemon=True)
        process.start()
        theirs.close()
        ends_with_us.close()
        return _Worker(process, pipe, lifeline)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.lifeline.close()


@dataclass(eq=False)
class ProcessExecutor:
    """Runs tasks in processes that end with the block, or with this process, however it ends.

    Attributes
    ----------
    jobs : int
        How many processes.
    tries : int
        Times that a task is started whose process dies.
    """

    jobs: int
    tries: int = TRIES
    _waiting: deque[_Handle] = field(default_factory=deque, repr=False)
    _workers: list[_Worker] = field(default_factory=list, repr=False)

    def __enter__(self) -> ProcessExecutor:
        """Return it; processes are started when there is work."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes at once: a task writes nothing that a half of it could spoil."""
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def submit(self, task: Task) -> Handle:
        """Hand in a task."""
        handle = _Handle(task)
        self._waiting.append(handle)
        return handle

    def as_completed(self, handles: Sequence[Handle]) -> Iterator[Handle]:
        """Yield handles as their tasks end."""
        open_ones = {id(handle) for handle in handles}
        while open_ones:
            self._hand_out()
            busy = {worker.pipe: worker for worker in self._workers if worker.at is not None}
            for pipe in wait(list(busy)):
                done = self._received(busy[pipe])  # type: ignore[index]  # a connection, as it was given
                if done is not None and id(done) in open_ones:
                    open_ones.remove(id(done))
                    yield done

    @property
    def pids(self) -> list[int]:
        """The processes that are at a task."""
        return [worker.process.pid for worker in self._workers if worker.at is not None]

    def _hand_out(self) -> None:
        idle = [worker for worker in self._workers if worker.at is None]
        while self._waiting and (idle or len(self._workers) < self.jobs):
            worker = idle.pop() if idle else _Worker.start()
            if worker not in self._workers:
                self._workers.append(worker)
            worker.at = self._waiting.popleft()
            worker.at.tries += 1
            try:
                worker.pipe.send((worker.at.task.function, worker.at.task.arguments))
            except OSError:  # it has died while it had nothing to do
                self._lost(worker)

    def _received(self, worker: _Worker) -> _Handle | None:
        """Take in an answer; None where the process died instead."""
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return None
        handle, worker.at = worker.at, None
        assert handle is not None
        handle.answer = answer
        return handle

    def _lost(self, worker: _Worker) -> None:
        """Have another process begin the task anew."""
        handle, worker.at = worker.at, None
        self._workers.remove(worker)
        worker.stop()
        assert handle is not None
        if handle.tries >= self.tries:
            raise WorkerError(
                f"{handle.task.name}: its process was killed {handle.tries} times, perhaps for lack of memory; what is"
                " finished is kept"
            )
        self._waiting.appendleft(handle)


def _work(pipe: Connection, lifeline: Connection) -> None:
    """Do what comes, one after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the parent decides
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, Any] = True, function(*arguments)
        except Exception as error:
            answer = False, _sendable(error)
        pipe.send(answer)


def _end_with(lifeline: Connection) -> None:
    """End this process when the parent's end of the pipe is gone, whatever the main thread is at."""
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)


def _sendable(error: Exception) -> Exception:
    """Return an error that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an exception of a library refuses
        return InvariantError(f"{type(error).__name__}: {error}")
    return error
