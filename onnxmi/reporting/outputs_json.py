"""What a result's outputs lost, as plain data for `--json`."""

from __future__ import annotations

from typing import Any

from onnxmi.evaluation.meters import Reading
from onnxmi.evaluation.yardstick import Part
from onnxmi.pruning.api import Result


def outputs_data(result: Result) -> list[dict[str, Any]]:
    """Return the same as plain data; damage 0 is equal, 1 is as bad as a constant."""
    parts = {part.view.name: part for part in result.damage.parts}
    return [
        {
            "name": name,
            **(_part_data(parts[name]) if name in parts else {}),
            "metrics": [_reading_data(reading) for reading in result.readings.get(name, ())],
        }
        for name in dict.fromkeys((*parts, *result.readings))
    ]


def _part_data(part: Part) -> dict[str, Any]:
    view = part.view
    return {
        "output": view.output,
        "tensor": view.tensor,
        "kind": view.kind,
        "why": view.why,
        "damage": part.error,
        "worst_column": part.column,
        "worst_column_damage": part.worst,
    }


def _reading_data(reading: Reading) -> dict[str, Any]:
    loss = reading.loss
    return {
        "metric": reading.metric,
        "before": reading.was,
        "after": reading.now,
        "lost": loss.value,
        "interval": [loss.low, loss.high],
        "samples": loss.n,
        "answers_lost": loss.flips_lost,
        "answers_gained": loss.flips_gained,
        "unit": loss.unit,
    }
