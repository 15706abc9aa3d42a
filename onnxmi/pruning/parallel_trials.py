"""Trials of whole plans by many workers: each makes a run's session once, from files, and then any number of models."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from onnxmi.data.sources import CalibrationLike
from onnxmi.data.splits import limits_of
from onnxmi.execution.choose import Workers
from onnxmi.execution.executor import Task, run_all
from onnxmi.execution.marker import require_running, running
from onnxmi.graph.channel_graph import UnitCounts
from onnxmi.model import load, save
from onnxmi.pruning.collect import needed
from onnxmi.pruning.parallel_capture import SharedInputs, collected_by, shared_inputs
from onnxmi.pruning.precision import Precision
from onnxmi.pruning.session import PruningSession, start_session
from onnxmi.pruning.sweep import JudgedPoint, judged_point
from onnxmi.runtime.session import limited
from onnxmi.statistics.statistics_file import StatisticsFile, load_statistics, save_statistics
from onnxmi.typing import Progress


@dataclass(frozen=True)
class SharedSession:
    """What a worker makes a session from.

    Attributes
    ----------
    inputs : SharedInputs
        Model, samples and options.
    held_back : float
        Share of the samples that nothing is fitted to.
    split_tables : bool
        Whether embedding tables are split.
    statistics : str
        Path of the statistics; "" where nothing reads any.
    precision : Precision or None
        How every cut is quantized.
    marker : str
        The run's marker, by which a worker knows the session again.
    """

    inputs: SharedInputs
    held_back: float
    split_tables: bool
    statistics: str
    precision: Precision | None
    marker: str

    def open(self) -> PruningSession:
        """Make the session; what earlier runs measured is neither used nor kept."""
        options = replace(self.inputs.options, fresh=True)
        session = start_session(
            self.inputs.load(), self.inputs.samples, options, self.held_back, split_tables=self.split_tables
        )
        measured = load_statistics(self.statistics) if self.statistics else session.measured
        measured.fit.require(session.analysis.linears if self.statistics else ())
        return replace(session, measured=measured, precision=self.precision)


_OPEN: dict[str, PruningSession] = {}  # of this process: the last one, by its run's marker


def _session(shared: SharedSession) -> PruningSession:
    if shared.marker not in _OPEN:
        _OPEN.clear()
        _OPEN[shared.marker] = shared.open()
    return _OPEN[shared.marker]


def judge_point(shared: SharedSession, share: float, counts: UnitCounts, target: str) -> JudgedPoint:
    """Make and judge a model of the curve, and leave it in a file; a task. What is returned lacks the model."""
    require_running(Path(shared.marker))
    with limited(shared.inputs.options.threads):
        point = judged_point(_session(shared), share, counts)
    save(point.proto, target)
    return replace(point, proto=type(point.proto)())


@dataclass(frozen=True)
class ParallelTrials:
    """The workers of one run.

    Attributes
    ----------
    workers : Workers
        Who they are.
    samples : path or SampleSource
        What the run was given.
    held_back, split_tables
        As of the run's session.
    """

    workers: Workers
    samples: CalibrationLike
    held_back: float
    split_tables: bool

    def measured(self, session: PruningSession, progress: Progress, *, selects: bool) -> StatisticsFile | None:
        """Measure a run's statistics in shards; None where nothing reads any, or they cannot be added up."""
        options = session.options
        # Split tables are not in the file that workers read, and histograms are not in a statistics file.
        if self.split_tables or options.scorer.measure is not None or not needed(options, selects=selects):
            return None
        kept = session.cache.statistics()
        if kept is not None:
            return kept
        limits = limits_of(session.split, session.data, session.options.seed)
        measured = collected_by(self.workers, session.source, self.samples, options, progress, limits)
        session.cache.keep_statistics(measured)
        return measured

    def _scratch(self, session: PruningSession) -> AbstractContextManager[Path]:
        path = shared_inputs(session.source, self.samples, session.options).model
        return self.workers.scratch(Path(path))

    def judge_all(
        self, session: PruningSession, wanted: Sequence[tuple[float, UnitCounts]], progress: Progress
    ) -> list[JudgedPoint]:
        """Make and judge the models of a sweep."""
        with self._scratch(session) as folder, running(folder) as marker:
            path = folder / "statistics.npz"
            if session.measured.samples:
                save_statistics(session.measured, path)
            shared = SharedSession(
                shared_inputs(session.source, self.samples, session.options),
                self.held_back,
                self.split_tables,
                str(path) if session.measured.samples else "",
                session.precision,
                str(marker),
            )
            targets = [folder / f"{number:04d}.onnx" for number in range(len(wanted))]
            tasks = [
                Task("sweep", judge_point, (shared, share, counts, str(target)))
                for (share, counts), target in zip(wanted, targets, strict=True)
            ]
            points = run_all(self.workers.executor, tasks, progress)
            return [replace(point, proto=load(t).proto) for point, t in zip(points, targets, strict=True)]
