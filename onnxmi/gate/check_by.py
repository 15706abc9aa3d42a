"""A gate whose models are run by many workers; sizes and times are those of this machine."""

from __future__ import annotations

from dataclasses import replace

from onnxmi.execution.choose import Workers
from onnxmi.gate.check import CheckOptions, Report, check
from onnxmi.gate.parallel_answers import ParallelAnswers
from onnxmi.transforms.analysis import ModelLike, as_model
from onnxmi.typing import Progress, silent


def check_by(workers: Workers | None, model: ModelLike, options: CheckOptions, progress: Progress = silent) -> Report:
    """Check a model; with workers, these answer the samples of `--max-drop`."""
    if workers is None or options.data is None or options.baseline is None:
        return check(model, options, progress)
    options.require()
    new, old = as_model(model), as_model(options.baseline)
    answers = ParallelAnswers(workers, (old, new), options.data, progress)
    return check(new, replace(options, baseline=old), progress, answers)
