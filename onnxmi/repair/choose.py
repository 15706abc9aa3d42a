"""Which repair to use: whatever brings the outputs closest to the original's on samples nothing was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import onnx

from onnxmi.axes.terms import Keeping
from onnxmi.data.calibration import Calibration
from onnxmi.data.splits import Deal
from onnxmi.errors import ModelError
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.linear import Linear
from onnxmi.model import Model
from onnxmi.repair.one_pass import repair_at_once
from onnxmi.repair.solution import Repaired
from onnxmi.repair.stepwise import repair_stepwise
from onnxmi.statistics.capture import CaptureOptions, Progress, silent
from onnxmi.statistics.statistics import Statistics
from onnxmi.transforms.prune_channels import rewrite


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
) -> Repaired:
    """Repair in one pass and step by step, and keep the better; the plain cut where both are worse than it.

    Parameters
    ----------
    fitted, judged : Statistics
        Of `deal.fit` and `deal.judge`, for the one-pass repair.
    damage : callable(proto)
        How far a model's answers on the judging samples are from the original's.

    Returns
    -------
    Repaired
        Few samples cannot make the model worse than the plain cut on the judging samples.
    """
    found = model, graph, linears, keeping
    at_once = repair_at_once(*found, fitted, judged)
    stepwise = repair_stepwise(*found, calibration, deal.fit, deal.judge, options, shared=at_once, progress=progress)
    plain = Repaired((), tuple(replace(note, used=False, reason=_WORSE) for note in at_once.notes))

    def error(candidate: Repaired) -> float:
        try:
            return damage(rewrite(model, graph, keeping, candidate.replacements))
        except ModelError:  # what does not run is no candidate
            return float("inf")

    return min((stepwise, at_once, plain), key=error)


_WORSE = "the outputs were closer to the original's without any repair"
