"""A run's session at workers: each makes it once, from files, and then does any number of tasks with it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from onnxmi.data.sources import CalibrationLike
from onnxmi.data.splits import limits_of
from onnxmi.execution.choose import Workers
from onnxmi.execution.marker import require_running, running
from onnxmi.model import load
from onnxmi.model.mapped import with_values_inside
from onnxmi.pruning.collect import needed
from onnxmi.pruning.latency_worker import WorkerStopwatch
from onnxmi.pruning.parallel_capture import SharedInputs, collected_by, shared_inputs
from onnxmi.pruning.precision import Precision
from onnxmi.pruning.session import PruningSession, start_session
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

    @property
    def threads(self) -> int:
        """Of a worker."""
        return self.inputs.options.threads

    def session(self) -> PruningSession:
        """Return the session, which is made when this process is asked for it first.

        Raises
        ------
        AbandonedError
            If the run has ended.
        """
        require_running(Path(self.marker))
        if not (_OPEN and _OPEN[0][0] == self):
            _OPEN[:] = [(self, self._open())]
        return _OPEN[0][1]

    def _open(self) -> PruningSession:
        """Make the session. It times nothing, and what earlier runs measured is neither used nor kept."""
        options = replace(self.inputs.options, fresh=True, timings=None)
        session = start_session(
            self.inputs.load(), self.inputs.samples, options, self.held_back, split_tables=self.split_tables
        )
        measured = load_statistics(self.statistics) if self.statistics else session.measured
        measured.fit.require(session.analysis.linears if self.statistics else ())
        return replace(session, measured=measured, precision=self.precision)


_OPEN: list[tuple[SharedSession, PruningSession]] = []  # of this process: the last one


class ParallelRun:
    """The workers of one run, and the folder that they and this process see as long as it goes on.

    Parameters
    ----------
    workers : Workers
        Who they are.
    samples : path or SampleSource
        What the run was given.
    held_back, split_tables
        As of the run's session.
    """

    def __init__(self, workers: Workers, samples: CalibrationLike, held_back: float, *, split_tables: bool) -> None:
        self.workers, self._samples = workers, samples
        self._held_back, self._split_tables = held_back, split_tables
        self._stack = ExitStack()
        self._first: SharedSession | None = None
        self._mark: Path | None = None
        self._files = 0

    def __enter__(self) -> ParallelRun:
        """Return it; the folder is made when something is to be left there."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the folder, so that workers stop."""
        self._stack.close()

    def measured(self, session: PruningSession, progress: Progress, *, selects: bool) -> StatisticsFile | None:
        """Measure a run's statistics in shards; None where nothing reads any, or they cannot be added up."""
        options = session.options
        # Split tables are not in the file that workers read, and histograms are not in a statistics file.
        if self._split_tables or options.scorer.measure is not None or not needed(options, selects=selects):
            return None
        kept = session.cache.statistics()
        if kept is not None:
            return kept
        limits = limits_of(session.split, session.data, session.options.seed)
        measured = collected_by(self.workers, session.source, self._samples, options, progress, limits)
        session.cache.keep_statistics(measured)
        return measured

    def timed(self, session: PruningSession) -> PruningSession:
        """Let models be timed where the workers say."""
        worker = self.workers.latency_worker
        if not worker:
            return session
        marker = self._marker(shared_inputs(session.source, self._samples, session.options))
        return replace(session, stopwatch=WorkerStopwatch(self.workers.executor, worker, marker))

    def shared(self, session: PruningSession) -> SharedSession:
        """Return what workers make a run's session from; its statistics are left in the folder once."""
        if self._first is None:
            inputs = shared_inputs(session.source, self._samples, session.options)
            marker = self._marker(inputs)
            path = marker.parent / "statistics.npz"
            if session.measured.samples:
                save_statistics(session.measured, path)
            statistics = str(path) if session.measured.samples else ""
            self._first = SharedSession(inputs, self._held_back, self._split_tables, statistics, None, str(marker))
        return replace(self._first, precision=session.precision)

    def new_file(self, ending: str) -> Path:
        """Return a path in the folder that nothing was written to; after `shared`."""
        assert self._mark is not None
        self._files += 1
        return self._mark.parent / f"{self._files:06d}{ending}"

    def _marker(self, inputs: SharedInputs) -> Path:
        """Return the run's marker; its folder is made at the first time."""
        if self._mark is None:
            folder = self._stack.enter_context(self.workers.scratch(Path(inputs.model)))
            self._mark = self._stack.enter_context(running(folder))
        return self._mark


def read_back(session: PruningSession, path: Path) -> onnx.ModelProto:
    """Read a model that a worker made. Its large tensors go where those of the session's own models are.

    The file goes with the run, and the model may be needed longer.
    """
    made = load(path)
    return session.source.spill_file.memory_mapped(with_values_inside(made.proto))
