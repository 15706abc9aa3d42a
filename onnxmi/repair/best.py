"""Which repair to use: whatever brings the outputs closest to the original's on samples nothing was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from onnxmi.calibration import Calibration
from onnxmi.capture import CaptureOptions, Progress, silent
from onnxmi.deal import Deal
from onnxmi.dims.channel_graph import ChannelGraph
from onnxmi.dims.term import Keeping
from onnxmi.linear import Linear
from onnxmi.model import Model
from onnxmi.quality import compare, outputs
from onnxmi.repair.at_once import repair_at_once
from onnxmi.repair.solution import Repaired
from onnxmi.repair.stepwise import repair_stepwise
from onnxmi.rewrite import rewrite
from onnxmi.statistics import Statistics


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
    progress: Progress = silent,
) -> Repaired:
    """Repair in one pass and step by step, and keep the better; the plain cut where both are worse than it.

    Parameters
    ----------
    fitted, judged : Statistics
        Of `deal.fit` and `deal.judge`, for the one-pass repair.

    Returns
    -------
    Repaired
        Few samples cannot make the model worse than the plain cut on the judging samples.
    """
    found = model, graph, linears, keeping
    at_once = repair_at_once(*found, fitted, judged)
    stepwise = repair_stepwise(*found, calibration, deal.fit, deal.judge, options, shared=at_once, progress=progress)
    plain = Repaired((), tuple(replace(note, used=False, reason=_WORSE) for note in at_once.notes))
    return min((stepwise, at_once, plain), key=_error(model, graph, keeping, calibration, deal, options))


_WORSE = "the outputs were closer to the original's without any repair"


def _error(
    model: Model,
    graph: ChannelGraph,
    keeping: Keeping,
    calibration: Calibration,
    deal: Deal,
    options: CaptureOptions,
) -> Callable[[Repaired], float]:
    """Relative error of the first output on the judging samples, as a function of the repair."""
    settings = calibration, deal.judges, options.batch_size, options.threads
    wanted = outputs(model.proto, *settings)

    def error(candidate: Repaired) -> float:
        made = outputs(rewrite(model, graph, keeping, candidate.replacements), *settings)
        return compare(wanted, made, None, len(deal.judges)).relative_error

    return error
