"""Metrics by the kind of output: what a cut model loses, in figures that people know."""

from onnxmi.evaluation.output_metrics.expected_flips import ExpectedFlips, expected_flips
from onnxmi.evaluation.output_metrics.output_metric import (
    ComparedOutput,
    Contributions,
    MetricValue,
    OutputMetric,
    measure_metric,
)
from onnxmi.evaluation.output_metrics.table import (
    OUTPUT_METRICS,
    compared_outputs,
    find_output_metric,
    fits,
    metrics_for,
)

__all__ = [
    "OUTPUT_METRICS",
    "ComparedOutput",
    "Contributions",
    "ExpectedFlips",
    "MetricValue",
    "OutputMetric",
    "compared_outputs",
    "expected_flips",
    "find_output_metric",
    "fits",
    "measure_metric",
    "metrics_for",
]
