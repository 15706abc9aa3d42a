"""What `--max-drop` bounds: the loss of the output that lost most, by the metric that decides."""

from __future__ import annotations

from onnxmi.errors import UsageError
from onnxmi.evaluation.answers import stack_samples
from onnxmi.evaluation.comparison import Comparison
from onnxmi.evaluation.judgement import RequestedMetric
from onnxmi.evaluation.loss import Loss
from onnxmi.evaluation.metrics import Metric
from onnxmi.gate.limits import Measured
from onnxmi.runtime.timing import Interval
from onnxmi.typing import Array


def drop(compared: Comparison, bound: float, metric: str | None = None, labels: Array | None = None) -> Measured:
    """Measure a model's loss.

    Parameters
    ----------
    compared : Comparison
        With the metric, where it is one of `onnxmi.evaluation.output_metrics`.
    bound : float
        The limit, in points.
    metric : str, optional
        As the user spells it.
    labels : (samples,) int64, optional
        Of the samples.

    Raises
    ------
    UsageError
        If there is nothing to compare, or the metric does not fit.
    """
    asked = RequestedMetric.of(metric, has_labels=labels is not None)
    if asked.metric is not None:
        return _first_output(compared, asked.metric, bound, labels)
    worst = compared.worst(bound)
    if worst is None:
        raise UsageError("--max-drop: the model has no output that can be compared")
    of = f"{worst.name}: " if len(compared.outputs) > 1 else ""
    return _measured(worst.loss, f"{of}{worst.readings[0].text}", bound)


def _first_output(compared: Comparison, metric: Metric, bound: float, labels: Array | None) -> Measured:
    """Measure a metric that knows no kinds, on the first output that is no state."""
    parts = sorted(compared.damage.parts, key=lambda part: part.view.kind == "state")
    name = parts[0].view.output
    reference, made = (stack_samples(answers.values.get(name, ())) for answers in (compared.reference, compared.made))
    if reference is None or made is None:
        raise UsageError(f"metric {metric.name}: output {name!r} has another size in each sample")
    reading = metric.reading(reference, made, labels)
    return _measured(reading.loss, reading.text, bound)


def _measured(loss: Loss, remark: str, bound: float) -> Measured:
    interval = Interval(loss.low, loss.high) if loss.known else None
    return Measured(loss.value, interval, remark, loss.doubt(bound))
