"""What pruning and what quantizing did to a result, as the page shows it."""

from __future__ import annotations

from onnxmi.reporting.html.fields import Fields
from onnxmi.reporting.html.plots import Table
from onnxmi.reporting.html.wording import amount, decimal, percent, speed


def steps_table(run: Fields) -> Table | None:
    """Return a row for the original, the pruned model and the quantized one; None where the result is float.

    Raises
    ------
    DataError
        If a field has another type.
    """
    steps = run.fields("quantization").entries("steps")
    if not steps:
        return None
    metric = run.text("metric") or "metric"
    headings = ("model", "file size", "one run", "speed", "error of all outputs", metric)
    return Table("What each step did", headings, tuple(map(_cells, steps)))


def _cells(step: Fields) -> tuple[str, ...]:
    time, factor = step.number("latency_ms"), step.number("speedup")
    return (
        step.text("name", 40),
        amount(step.number("bytes"), "bytes"),
        "" if time is None else amount(time, "ms"),
        "" if factor is None else speed(factor),
        percent(step.number("damage")),
        decimal(step.number("value"), 4),
    )
