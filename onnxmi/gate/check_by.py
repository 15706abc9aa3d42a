"""A gate whose models are run by many workers; sizes are those of this machine, and times if no worker takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from onnxmi.data.sources import as_calibration
from onnxmi.errors import UsageError
from onnxmi.execution.choose import Workers
from onnxmi.execution.marker import running
from onnxmi.gate.check import CheckOptions, check
from onnxmi.gate.parallel_answers import ParallelAnswers
from onnxmi.gate.report import Report
from onnxmi.model import Model
from onnxmi.pruning.latency_worker import WorkerStopwatch
from onnxmi.runtime.stopwatch import OWN, Stopwatch
from onnxmi.transforms.analysis import ModelLike, as_model
from onnxmi.typing import Progress, silent


def check_by(workers: Workers | None, model: ModelLike, options: CheckOptions, progress: Progress = silent) -> Report:
    """Check a model, and measure the same of those between it and the baseline.

    Workers answer the samples of `--max-drop`, and one of them times the models if it is named.
    """
    if not options.between:
        return _check_one(workers, model, options, progress)
    if options.baseline is None:
        raise UsageError("--between needs --baseline: it is where the steps begin")
    old, alone = as_model(options.baseline), replace(options, between=())
    if options.data is not None:  # they may be read once only
        alone = replace(alone, data=as_calibration(options.data, old))
    alone = replace(alone, baseline=old)
    report = _check_one(workers, model, alone, progress)
    return replace(report, steps=tuple(_check_one(workers, step, alone, progress) for step in options.between))


def _check_one(workers: Workers | None, model: ModelLike, options: CheckOptions, progress: Progress) -> Report:
    if workers is None:
        return check(model, options, progress)
    options.require()
    new = as_model(model)
    if options.baseline is not None:
        options = replace(options, baseline=as_model(options.baseline))
    with _stopwatch(workers, new) as stopwatch:
        if options.data is None or not isinstance(options.baseline, Model):
            return check(new, options, progress, stopwatch=stopwatch)
        answers = ParallelAnswers(workers, (options.baseline, new), options.data, progress)
        return check(new, options, progress, answers, stopwatch)


@contextmanager
def _stopwatch(workers: Workers, model: Model) -> Iterator[Stopwatch]:
    if not workers.latency_worker:
        yield OWN
        return
    if model.path is None:
        raise UsageError("the worker of --latency-worker reads models from files: save the model, and give its path")
    with workers.scratch(model.path) as folder, running(folder) as marker:
        yield WorkerStopwatch(workers.executor, workers.latency_worker, marker)
