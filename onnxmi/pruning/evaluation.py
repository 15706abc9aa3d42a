"""A result on samples of the user's own, which no stage has seen."""

from __future__ import annotations

import os
from dataclasses import dataclass

import onnx

from onnxmi.data.batching import batched
from onnxmi.data.calibration import Calibration
from onnxmi.data.sources import CalibrationLike, SampleSource, as_calibration
from onnxmi.evaluation.comparison import OutputLoss, compare_models
from onnxmi.evaluation.output_metrics import find_output_metric
from onnxmi.model import Model
from onnxmi.pruning.options import PruneOptions
from onnxmi.transforms.analysis import as_model


@dataclass(frozen=True)
class Evaluation:
    """What a result loses on an evaluation file.

    Attributes
    ----------
    name : str
        Of the file; "" where the samples came from elsewhere.
    samples : int
        How many there are.
    outputs : tuple of OutputLoss
        What is lost of each output.
    """

    name: str
    samples: int
    outputs: tuple[OutputLoss, ...]

    @property
    def decisive(self) -> OutputLoss | None:
        """The output that loses most."""
        outputs = [output for output in self.outputs if output.kind != "state"] or list(self.outputs)
        return max(outputs, key=lambda output: output.loss.value, default=None)


def read_evaluation(source: Model, samples: CalibrationLike, options: PruneOptions) -> Calibration:
    """Read evaluation samples before the long work, so that what is wrong with them is said first.

    Raises
    ------
    CalibrationError
        If they do not fit the model.
    """
    return batched(source, as_calibration(samples, source), options.threads)


def samples_name(samples: CalibrationLike) -> str:
    """Return the path that samples come from; "" where they come from elsewhere."""
    origin = samples.samples if isinstance(samples, SampleSource) else samples
    return os.fspath(origin) if isinstance(origin, str | os.PathLike) else ""


def evaluate(source: Model, result: onnx.ModelProto, data: Calibration, name: str, options: PruneOptions) -> Evaluation:
    """Compare a result with its source on all samples of a file.

    Parameters
    ----------
    source : Model
        The original.
    result : onnx.ModelProto
        What was made of it.
    data : Calibration
        The samples.
    name : str
        Of their file.
    options : PruneOptions
        Say what the outputs mean, and the metric; one of the user's own is not taken here.
    """
    metric = options.metric if options.metric and find_output_metric(options.metric) is not None else None
    comparison = compare_models(
        source,
        as_model(result),
        data,
        metric=metric,
        overrides=options.outputs,
        ignore=options.ignore_outputs,
        batch_size=options.batch_size,
        threads=options.threads,
    )
    return Evaluation(name, data.count, comparison.outputs)
