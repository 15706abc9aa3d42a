"""Which repair to use: whatever brings the outputs closest to the original's on samples nothing was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import onnx

from onnxmi.axes.terms import Keeping
from onnxmi.data.calibration import Calibration
from onnxmi.data.splits import Deal
from onnxmi.errors import ModelError
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.linear import Linear
from onnxmi.model import Model
from onnxmi.repair.centered import centered
from onnxmi.repair.one_pass import repair_at_once
from onnxmi.repair.regression import Repaired
from onnxmi.repair.stepwise import repair_stepwise
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.statistics import Statistics
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import Floats, Progress, silent

Offsets = Mapping[str, Floats]


def repair(
    model: Model,
    graph: ChannelGraph,
    linears: Sequence[Linear],
    keeping: Keeping,
    calibration: Calibration,
    deal: Deal,
    fitted: Statistics,
    judged: Statistics | None,
    options: CaptureOptions,
    damage: Callable[[onnx.ModelProto], float],
    progress: Progress = silent,
    offsets: Callable[[onnx.ModelProto], Offsets] | None = None,
) -> Repaired:
    """Repair in one pass and step by step, and keep the better; the plain cut where both are worse than it.

    Parameters
    ----------
    fitted, judged : Statistics
        Of `deal.fit` and `deal.judge`, for the one-pass repair.
    damage : callable(proto)
        How far a model's answers on the judging samples are from the original's.
    offsets : callable(proto), optional
        What to add to the outputs so that their means are right. The step-by-step repair has that done already, so it
        is added to the last biases of the one-pass repair and of the plain cut.

    Returns
    -------
    Repaired
        Few samples cannot make the model worse than the plain cut on the judging samples.
    """
    found = model, graph, linears, keeping
    at_once = repair_at_once(*found, fitted, judged)
    stepwise = repair_stepwise(*found, calibration, deal.fit, deal.judge, options, shared=at_once, progress=progress)
    plain = Repaired((), tuple(replace(note, used=False, reason=_WORSE) for note in at_once.notes))
    candidates = [stepwise, at_once, plain]
    if offsets is not None:
        even = [_centered(*found, candidate, offsets) for candidate in (at_once, plain)]
        candidates = [stepwise, *even, plain]

    def error(candidate: Repaired) -> float:
        try:
            return damage(prune_channels(model, graph, keeping, candidate.replacements))
        except ModelError:  # what does not run is no candidate
            return float("inf")

    return min(candidates, key=error)


def _centered(
    model: Model,
    graph: ChannelGraph,
    linears: Sequence[Linear],
    keeping: Keeping,
    candidate: Repaired,
    offsets: Callable[[onnx.ModelProto], Offsets],
) -> Repaired:
    try:
        found = offsets(prune_channels(model, graph, keeping, candidate.replacements))
    except ModelError:
        return candidate
    return centered(model, linears, keeping, candidate, found)


_WORSE = "the outputs were closer to the original's without it"
