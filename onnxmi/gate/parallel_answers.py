"""A model's answers by many workers: each runs some stretches of whole batches, so that the answers are the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx

from onnxmi.data.batching import batched
from onnxmi.data.calibration import Calibration
from onnxmi.data.npz import read_archive, write_archive
from onnxmi.data.sources import CalibrationLike, as_calibration
from onnxmi.errors import DataError
from onnxmi.evaluation.answers import collect_answers
from onnxmi.execution.choose import Workers
from onnxmi.execution.executor import Task, run_all
from onnxmi.execution.marker import require_running, running
from onnxmi.model import Model
from onnxmi.model.save import write_atomically
from onnxmi.outputs.view import Answers, Meaning
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.parallel_capture import SharedInputs, shared_inputs
from onnxmi.typing import Array, Progress, Samples


@dataclass(frozen=True)
class _Run:
    """What a worker runs: a model, on the samples as another model takes them."""

    model: SharedInputs
    reader: SharedInputs
    meaning: Meaning
    batch_size: int
    marker: str


@dataclass(frozen=True)
class ParallelAnswers:
    """Stands in for `collect_answers`.

    Attributes
    ----------
    workers : Workers
        Who runs the models.
    models : tuple of Model
        The models that may be asked about, each from a file; the first is what the samples were checked against.
    samples : path or SampleSource
        The samples.
    progress : callable
        Told of every stretch that is done.
    """

    workers: Workers
    models: tuple[Model, ...]
    samples: CalibrationLike
    progress: Progress

    def __call__(
        self,
        proto: onnx.ModelProto,
        meaning: Meaning,
        calibration: Calibration,
        samples: Samples,
        batch_size: int,
        threads: int,
    ) -> Answers:
        """Run a model on all samples of a file."""
        model = next((one for one in self.models if one.proto is proto), None)
        if model is None or len(samples) != calibration.count:
            return collect_answers(proto, meaning, calibration, samples, batch_size, threads)
        options = PruneOptions(threads=threads)
        asked, reader = (shared_inputs(one, self.samples, options) for one in (model, self.models[0]))
        with self.workers.scratch(Path(reader.model)) as folder, running(folder) as marker:
            run = _Run(asked, reader, meaning, batch_size, str(marker))
            stretches = list(_stretches(len(samples), calibration.step or batch_size, self.workers.shards))
            files = [folder / f"{start}.npz" for start, _ in stretches]
            tasks = [
                Task("answers", answer, (run, start, stop, str(file)))
                for (start, stop), file in zip(stretches, files, strict=True)
            ]
            run_all(self.workers.executor, tasks, self.progress)
            return _joined(len(samples), map(_read, files))


def answer(run: _Run, start: int, stop: int, target: str) -> None:
    """Run a stretch of the samples, and leave the answers in a file; a task."""
    require_running(Path(run.marker))
    model, data = _opened(run.marker, run.model.model, run.model, run.reader)
    own = np.arange(start, stop)
    answers = collect_answers(model.proto, run.meaning, data, own, run.batch_size, run.model.options.threads)
    arrays = [
        (f"{number}/{name}", array) for name, values in answers.values.items() for number, array in enumerate(values)
    ]
    write_atomically(Path(target), lambda stream: write_archive(stream, arrays))


@lru_cache(maxsize=2)
def _opened(_marker: str, _path: str, model: SharedInputs, reader: SharedInputs) -> tuple[Model, Calibration]:
    """Read a model and the samples once a run."""
    original = reader.load()
    data = batched(original, as_calibration(reader.samples, original), reader.options.threads)
    return (original if model.model == reader.model else model.load()), data


def _stretches(count: int, batch: int, parts: int) -> Iterator[tuple[int, int]]:
    """Divide samples into about so many stretches of whole batches."""
    step = -(-count // (parts * batch)) * batch
    for start in range(0, count, step):
        yield start, min(start + step, count)


def _read(path: Path) -> dict[str, list[Array]]:
    values: dict[str, list[Array]] = {}
    for name, array in read_archive(path, DataError).items():
        values.setdefault(name.partition("/")[2], []).append(array)
    return values


def _joined(count: int, parts: Iterable[Mapping[str, list[Array]]]) -> Answers:
    """Put the answers to the stretches together, without tensors that one of them lacks."""
    all_parts = list(parts)
    names = [name for name in all_parts[0] if all(name in part for part in all_parts)]
    return Answers(count, {name: tuple(array for part in all_parts for array in part[name]) for name in names})
