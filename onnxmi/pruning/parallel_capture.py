"""Statistics measured by many workers: a file for each shard, then sums, block by block."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from onnxmi.data.shards import MOST, Shard
from onnxmi.data.sources import CalibrationLike, SampleSource, SourceOptions, address_of
from onnxmi.data.splits import LotLimits
from onnxmi.errors import DataError, UsageError
from onnxmi.execution.choose import Workers
from onnxmi.execution.executor import Task, run_all
from onnxmi.execution.marker import require_running, running, while_running
from onnxmi.model import Model, load
from onnxmi.model.save import write_atomically
from onnxmi.pruning.collect import BY_DEFAULT
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.shards import capture_shard
from onnxmi.statistics.merging import Block, Sum, check_part, merge_to, open_unchecked, reopened, write_sum
from onnxmi.statistics.statistics_file import StatisticsFile, load_statistics
from onnxmi.typing import Array, Progress

AT_HOME = 2**28  # bytes of all files: so little is added up faster than handed out


@dataclass(frozen=True)
class SharedInputs:
    """What workers read by themselves.

    Attributes
    ----------
    model : str
        Path of the model.
    digest : str
        What is there, to notice another file of that name.
    samples : SampleSource or str
        The samples.
    options : PruneOptions
        Of the run; a worker has one thread where they say nothing.
    """

    model: str
    digest: str
    samples: SampleSource | str
    options: PruneOptions

    def load(self) -> Model:
        """Read the model.

        Raises
        ------
        DataError
            If it is another one here.
        """
        model = load(self.model)
        if model.digest != self.digest:
            raise DataError(f"{self.model}: a worker reads another file there")
        return model


def shared_inputs(model: Model, samples: CalibrationLike, options: PruneOptions) -> SharedInputs:
    """Return what workers read.

    Raises
    ------
    UsageError
        If model or samples are in no file.
    """
    if model.path is None:
        raise UsageError("workers read the model from a file: save it, and give its path")
    origin = samples.samples if isinstance(samples, SampleSource) else samples
    if not isinstance(origin, str | Path):
        raise UsageError("workers read the samples from files: write them with `onnxmi calib`, and give the path")
    absolute = address_of(origin) or str(Path(origin).resolve())
    source = SampleSource(absolute, _absolute(samples.options)) if isinstance(samples, SampleSource) else absolute
    own = replace(options, threads=options.threads or 1)
    return SharedInputs(str(model.path.resolve()), model.digest, source, own)


def _absolute(options: SourceOptions) -> SourceOptions:
    """Name the tokenizer as a worker with another working folder finds it."""
    return options if options.tokenizer is None else replace(options, tokenizer=options.tokenizer.resolve())


def capture_in_shards(
    workers: Workers,
    model: Model,
    samples: CalibrationLike,
    options: PruneOptions,
    target: Path,
    progress: Progress,
    limits: LotLimits = BY_DEFAULT,
) -> None:
    """Measure all shards and add them up into a file: the same bytes, whoever measures them and in whatever order.

    What is finished waits beside the file until the sum is written; started again, only the rest is measured.
    """
    if not 1 <= workers.shards <= MOST:
        raise UsageError(f"--shards {workers.shards} is out of range: expected 1 to {MOST:,}")
    options.check()
    inputs, folder = shared_inputs(model, samples, options), _folder(workers, target)
    paths = [folder / f"{index:06d}.npz" for index in range(workers.shards)]
    with running(folder) as marker:
        tasks = [
            Task(
                "measure shards", measure_shard, (inputs, Shard(index, workers.shards), str(path), str(marker), limits)
            )
            for index, path in enumerate(paths)
        ]
        run_all(workers.executor, tasks, progress)
        _add_up(workers, paths, target, marker, progress)
    shutil.rmtree(folder, ignore_errors=True)


def collected_by(
    workers: Workers,
    model: Model,
    samples: CalibrationLike,
    options: PruneOptions,
    progress: Progress,
    limits: LotLimits = BY_DEFAULT,
) -> StatisticsFile:
    """Measure all shards and return their sum, which is mapped into memory: its file has no name any more."""
    path = shared_inputs(model, samples, options).model
    with workers.scratch(Path(path)) as folder:
        target = folder / "statistics.npz"
        capture_in_shards(replace(workers, shared=folder), model, samples, options, target, progress, limits)
        return load_statistics(target)


def _folder(workers: Workers, target: Path) -> Path:
    """Make the folder of a file's shards."""
    folder = (workers.shared or target.resolve().parent) / f"{target.name}.shards"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror}") from error
    return folder.resolve()


def measure_shard(inputs: SharedInputs, shard: Shard, target: str, marker: str, limits: LotLimits) -> bool:
    """Measure one shard; a task."""
    require_running(Path(marker))
    advance = while_running(Path(marker))
    return capture_shard(inputs.load(), inputs.samples, shard, Path(target), inputs.options, advance, limits)


# -- adding up ---------------------------------------------------------------------------------------------------------


def _add_up(workers: Workers, paths: Sequence[Path], target: Path, marker: Path, progress: Progress) -> None:
    """Add up the shards' files; where they are large, each worker adds up some blocks."""
    if sum(path.stat().st_size for path in paths) <= AT_HOME:
        merge_to(paths, target)
        return
    checks = [Task("check files", check_file, (str(path), str(marker))) for path in paths]
    run_all(workers.executor, checks, progress)
    total = open_unchecked(paths)
    ordered = tuple(str(part.path) for part in total.parts)
    blocks = [block for _, _, blocks, _ in total.arrays() for block in blocks]
    files = {block: marker.parent / f"block-{number:06d}.npy" for number, block in enumerate(blocks)}
    tasks = [Task("merge", add_block, (ordered, block, str(file), str(marker))) for block, file in files.items()]
    run_all(workers.executor, tasks, progress)
    write_sum(total, target, partial(_taken, total, files))


def check_file(path: str, marker: str) -> None:
    """Read a file through and compare its checksums; a task."""
    require_running(Path(marker))
    check_part(Path(path))


def add_block(paths: tuple[str, ...], block: Block, target: str, marker: str) -> None:
    """Add up one block of all files, and leave it in a file; a task."""
    require_running(Path(marker))
    added = reopened(paths).block(block)
    write_atomically(Path(target), partial(np.lib.format.write_array, array=added, allow_pickle=False))


def _taken(total: Sum, files: dict[Block, Path], block: Block) -> Array:
    """Read a block that a worker has added up, and remove its file."""
    added = np.load(files[block], allow_pickle=False)
    with suppress(OSError):
        files[block].unlink()
    if not added.size == prod(total.block_shape(block)):
        raise DataError(f"{files[block]}: is not what was added up")
    return np.asarray(added)
