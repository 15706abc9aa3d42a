"""What a run found, as plain data for `--json`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypedDict

import numpy as np

from onnxmi.budget.goals import option
from onnxmi.evaluation.output_metrics import MetricValue
from onnxmi.evaluation.yardstick import Part
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.cost import dependents, parameters
from onnxmi.graph.layer_filter import DEFAULT_KINDS, cut_by_default
from onnxmi.graph.layer_names import LayerNames
from onnxmi.graph.macs import node_macs
from onnxmi.model import TensorInfo
from onnxmi.outputs.view import Meaning
from onnxmi.pruning.evaluation import Evaluation
from onnxmi.pruning.outcome import Outcome
from onnxmi.pruning.sweep import TradeOff, TradeOffPoint
from onnxmi.reporting.png import data_uri
from onnxmi.runtime.session import Feeds
from onnxmi.transforms.analysis import Analysis
from onnxmi.version import versions

SCHEMA = 1
"""Number of the schemas in docs/schemas: it grows where a key changes its meaning or goes."""


def outputs_data(result: Outcome) -> list[dict[str, Any]]:
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


def _reading_data(reading: MetricValue) -> dict[str, Any]:
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


class LayerRow(TypedDict):
    """One layer: its size, grade, where it is made and used, and what hangs on it.

    `macs` are those of the operators that make or use it, on the inputs that the model was probed with;
    `macs_share` is their share of the model's. `number` is what --skip and --only take, `by_default` whether it is cut
    where no kinds are asked for.
    """

    number: int
    name: str
    short_name: str
    by_default: bool
    kind: str
    size: int
    parts: int
    grade: str
    made_by: list[str]
    used_by: list[str]
    parameters: int
    macs: int
    macs_share: float


def to_json(data: Mapping[str, Any]) -> str:
    """Return strict JSON with the number of its schema: what is not finite becomes null."""
    return json.dumps({"schema": SCHEMA, **_finite(data)}, indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def result_data(result: Outcome) -> dict[str, Any]:
    """Everything that `prune` found."""
    graph = result.analysis.graph
    parts = {layer.name: layer.parts for layer in graph.layers}
    return {
        "model": {"sha256": result.plan.digest},
        "plan_sha256": hashlib.sha256(result.plan.to_json().encode()).hexdigest(),
        "versions": versions(),
        "options": dict(result.plan.options),
        "before": vars(result.before),
        "after": vars(result.after),
        "latency_ms": _latency_data(result),
        "quality": None if result.quality is None else vars(result.quality),
        "outputs": outputs_data(result),
        "layers": [
            {
                "name": choice.layer,
                "kind": choice.kind,
                "before": choice.size * parts[choice.layer],
                "after": choice.count * parts[choice.layer],
                "parts": parts[choice.layer],
                "gains": [float(f"{gain:.6g}") for gain in choice.gains],
            }
            for choice in result.plan.choices
        ],
        "metric": result.metric,
        "decisive": None if result.decisive is None else _reading_data(result.decisive),
        "evaluation": None if result.evaluation is None else _evaluation_data(result.evaluation),
        "changed_answers": [
            {**vars(own), "image": None if own.image is None else data_uri(own.image)} for own in result.changed
        ],
        "hints": [vars(hint) for hint in result.hints],
        "quantization": _quantization_data(result),
        "goals": [{**vars(goal), "name": option(goal.name), "verdict": goal.verdict} for goal in result.goals],
        "trials": [vars(trial) for trial in result.trials],
        "left_out": [layer.name for layer in result.left_out],
        "kept_whole": [{"name": layer.name, "kind": layer.kind, "units": layer.units} for layer in result.kept_whole],
        "frozen": _frozen_data(graph),
        "repair": [vars(note) for note in result.repairs],
        "checks": [vars(check) for check in result.checks],
        "notes": list(result.notes),
        "peak_memory": result.peak_memory,
    }


def _evaluation_data(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "name": evaluation.name,
        "samples": evaluation.samples,
        "outputs": [
            {"name": own.name, "kind": own.kind, "metrics": [_reading_data(reading) for reading in own.readings]}
            for own in evaluation.outputs
        ],
    }


def _frozen_data(graph: ChannelGraph) -> list[dict[str, Any]]:
    return [{"name": frozen.name, "size": frozen.size, "reason": frozen.reason} for frozen in graph.frozen]


def _quantization_data(result: Outcome) -> dict[str, Any] | None:
    """Return how the result was quantized, and what pruning and 8 bits did; None where it is float."""
    if result.plan.quantization is None:
        return None
    steps = [
        {
            "name": step.name,
            "bytes": step.size,
            "damage": step.damage,
            "value": step.value,
            "latency_ms": None if step.latency is None else step.latency[1].median,
            "speedup": step.speedup,
        }
        for step in result.contributions
    ]
    recipe = result.plan.quantization.to_dict()
    return {**{name: value for name, value in recipe.items() if name not in ("ranges", "kept")}, "steps": steps}


def _latency_data(result: Outcome) -> dict[str, Any] | None:
    if result.latency is None:
        return None
    before, after = result.latency
    interval = after.speedup_interval(before)
    return {
        "before": {"median": before.median, "spread": before.spread},
        "after": {"median": after.median, "spread": after.spread},
        "speedup": after.speedup_over(before),
        "speedup_interval": [interval.low, interval.high],
    }


def curve_data(curve: TradeOff) -> dict[str, Any]:
    """Everything that `sweep` found."""
    return {
        "model": {"sha256": curve.digest},
        "versions": versions(),
        "by": curve.by,
        "metric": curve.metric,
        "samples": curve.samples,
        "dense": {**vars(curve.dense), "value": curve.dense_value},
        "points": [_point_data(point) for point in curve.points],
        "skipped": list(curve.skipped),
        "notes": list(curve.notes),
    }


def _point_data(point: TradeOffPoint) -> dict[str, Any]:
    times = {"before": point.was, "after": point.now}
    return {
        "target": point.share,
        **vars(point.cost),
        "latency_ms": {name: {"median": one.median, "spread": one.spread} for name, one in times.items()},
        "speedup": point.speedup,
        "value": point.value,
        "drop": point.drop,
        "drop_error": point.error,
        **vars(point.quality),
    }


def curve_rows(curve: TradeOff) -> list[dict[str, Any]]:
    """One flat row a model, for a spreadsheet: the original first."""
    dense = {"latency_ms": None, "speedup": 1.0, "value": curve.dense_value, "drop": 0.0}
    whole = {"target": 1.0, **vars(curve.dense), **dense}
    names = [*whole, "drop_error", "agreement", "accuracy", "relative_error"]
    rows = [{**data, "latency_ms": data["latency_ms"]["after"]["median"]} for data in map(_point_data, curve.points)]
    return [{name: row.get(name) for name in names} for row in (whole, *rows)]


def graph_data(analysis: Analysis, meaning: Meaning) -> dict[str, Any]:
    """Return the channel graph and what the outputs mean."""
    return {
        "model": {"sha256": analysis.model.digest, "bytes": analysis.model.size},
        "totals": totals_data(analysis),
        "inputs": [_input_data(info, analysis.probe.feeds) for info in analysis.source.graph.inputs],
        "default_kinds": list(DEFAULT_KINDS),
        "probed_with": {name: list(array.shape) for name, array in analysis.probe.feeds.items()},
        "unread": list(analysis.unused_positions.notes),
        "layers": layer_rows(analysis),
        "frozen": _frozen_data(analysis.graph),
        "outputs": meaning_data(meaning),
    }


def totals_data(analysis: Analysis) -> dict[str, int]:
    """Return what the whole model has: parameters, bytes, and multiply-accumulates of the run to probe it."""
    model, shapes = analysis.model, analysis.probe.shapes
    macs = sum(node_macs(node, shapes) for node in model.graph.nodes)
    return {"parameters": parameters(model.graph), "bytes": analysis.source.size, "macs": macs}


def _input_data(info: TensorInfo, feeds: Feeds) -> dict[str, Any]:
    dims = None if info.dims is None else list(info.dims)
    fed = feeds.get(info.name)
    return {
        "name": info.name,
        "type": None if info.dtype is None else str(info.dtype),
        "dims": dims,
        "probed_with": None if fed is None else list(np.shape(fed)),
    }


def meaning_data(meaning: Meaning) -> dict[str, Any]:
    """Return what is compared of the outputs, and what is not and why."""
    return {"compared": [asdict(view) for view in meaning.views], "ignored": dict(meaning.ignored)}


def layer_rows(analysis: Analysis) -> list[LayerRow]:
    """One row a layer, in graph order."""
    nodes, called = analysis.model.graph.nodes, LayerNames.of(analysis.graph)
    weight = dependents(analysis.model.graph, analysis.graph, analysis.probe.shapes)
    total = sum(node_macs(node, analysis.probe.shapes) for node in nodes)
    return [
        {
            "number": called.numbers[layer.id],
            "name": layer.name,
            "short_name": called[layer.name],
            "by_default": cut_by_default(layer),
            "kind": layer.kind,
            "size": layer.size,
            "parts": layer.parts,
            "grade": layer.grade,
            "made_by": [nodes[node].label for node in layer.makers],
            "used_by": [nodes[node].label for node in layer.users],
            "parameters": weight[layer.id].parameters,
            "macs": weight[layer.id].macs,
            "macs_share": weight[layer.id].macs / total if total else 0.0,
        }
        for layer in analysis.graph.layers
    ]
