"""Times of models at one certain worker: on the machine that the models are for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import onnx

from onnxmi.data.npz import read_archive, write_archive
from onnxmi.errors import DataError
from onnxmi.execution.executor import Executor, Task, run_all
from onnxmi.execution.marker import require_running
from onnxmi.model import load, save
from onnxmi.model.save import write_atomically
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.stopwatch import Machine, TimingOptions
from onnxmi.runtime.timing import Latency, measure_latency
from onnxmi.typing import silent


class WorkerStopwatch:
    """Times models at one worker, which reads them from files; see `onnxmi.runtime.stopwatch.Stopwatch`.

    Parameters
    ----------
    executor : Executor
        Has that worker.
    worker : str
        Its name or address.
    marker : Path
        Of the run, in a folder that the worker sees.
    """

    def __init__(self, executor: Executor, worker: str, marker: Path) -> None:
        self._executor, self._worker, self._marker = executor, worker, marker
        self._first: onnx.ModelProto | None = None  # the last one that others were compared with
        self._files = 0

    @cached_property
    def machine(self) -> Machine:
        """The worker's machine."""
        seen: Machine = self._done(Machine.here)
        return seen

    @property
    def note(self) -> str:
        """Whose times they are."""
        return f"times are those of another machine ({self.machine.name})"

    def measure(
        self, protos: Sequence[onnx.ModelProto], feeds: Feeds, **options: Unpack[TimingOptions]
    ) -> tuple[Latency, ...]:
        """Time models in turn."""
        folder = self._marker.parent
        paths = [folder / f"timed-{number}.onnx" for number in range(len(protos))]
        for proto, path in zip(protos, paths, strict=True):
            if path is not paths[0] or proto is not self._first:
                save(proto, path)
        self._first = protos[0]
        inputs = folder / "timed.npz"
        # Texts are objects in memory, which a file without pickles cannot hold.
        arrays = [(name, value.astype(str) if value.dtype.kind == "O" else value) for name, value in feeds.items()]
        write_atomically(inputs, lambda stream: write_archive(stream, arrays))
        times: list[list[float]]
        times, block = self._done(
            time_models, str(self._marker), tuple(map(str, paths)), str(inputs), tuple(options.items())
        )
        return tuple(Latency(np.array(own, dtype=np.float64), block) for own in times)

    def _done(self, function: Any, *arguments: Any) -> Any:
        (result,) = run_all(self._executor, [Task("time", function, arguments, self._worker)], silent)
        return result


def time_models(
    marker: str, paths: tuple[str, ...], inputs: str, options: tuple[tuple[str, Any], ...]
) -> tuple[list[list[float]], int]:
    """Time models in turn; a task. Return the times of each in ms, and the turns between two loads."""
    require_running(Path(marker))
    stored = read_archive(Path(inputs), DataError)
    feeds = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in stored.items()}
    models = [load(path) for path in paths]  # held: their large tensors are mapped
    measured = measure_latency([model.proto for model in models], feeds, **dict(options))
    return [latency.times.tolist() for latency in measured], measured[0].block
