"""Which repair to use: whatever brings the outputs closest to the original's on samples nothing was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import onnx

from onnxmi.errors import ModelError
from onnxmi.repair.centered import centered
from onnxmi.repair.one_pass import repair_one_pass
from onnxmi.repair.regression import Repaired
from onnxmi.repair.samples import RepairSamples
from onnxmi.repair.stepwise import repair_stepwise
from onnxmi.statistics.statistics_file import StatisticsFile
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import Floats, Progress, silent

Offsets = Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class OutputComparison:
    """How the outputs of a repaired model are compared with the original's.

    Attributes
    ----------
    damage : callable(proto)
        How far a model's answers on the judging samples are from the original's.
    offsets : callable(proto) or None
        What to add to the outputs so that their means are right. The stepwise repair has that done already, so it is
        added to the last biases of the one-pass repair and of the unrepaired cut.
    least : callable(proto) or None
        About the least damage on the judging samples that any offsets can leave. Where that is no better than the best
        so far, the offsets are not measured: they take a run on many samples.
    """

    damage: Callable[[onnx.ModelProto], float]
    offsets: Callable[[onnx.ModelProto], Offsets] | None = None
    least: Callable[[onnx.ModelProto], float] | None = None


def repair(
    cut: Cut,
    samples: RepairSamples,
    statistics: StatisticsFile,
    outputs: OutputComparison,
    progress: Progress = silent,
) -> Repaired:
    """Repair in one pass and step by step, and keep the better; the unrepaired cut where both are worse than it.

    Parameters
    ----------
    samples : RepairSamples
        For the stepwise repair.
    statistics : StatisticsFile
        Of the same samples, for the one-pass repair.
    outputs : OutputComparison
        What decides.

    Returns
    -------
    Repaired
        Few samples cannot make the model worse than the unrepaired cut on the judging samples.
    """
    one_pass = repair_one_pass(cut, statistics)
    stepwise = repair_stepwise(cut, samples, shared=one_pass, progress=progress)
    unrepaired = Repaired((), tuple(replace(note, used=False, reason=_WORSE) for note in one_pass.notes))
    # Stepwise repair has put the means right on its way; the others see their own errors add up only now.
    best = _Best(cut, outputs, stepwise)
    for other in (one_pass, unrepaired):
        least = best.least(other)
        if outputs.offsets is not None and least < best.damage:
            best.offer(_centered(cut, other, outputs.offsets))
        # Offsets may make few samples' means worse: the unrepaired cut stands as it is, too.
        as_it_is = other is unrepaired or outputs.offsets is None
        if as_it_is and least < best.damage:
            best.offer(other)
    return best.repaired


class _Best:
    """The best of some repairs; of equals the first."""

    def __init__(self, cut: Cut, outputs: OutputComparison, first: Repaired) -> None:
        self._cut, self._outputs = cut, outputs
        self.repaired, self.damage = first, self._measured(first, outputs.damage)

    def offer(self, candidate: Repaired) -> None:
        """Take a candidate if it is better."""
        damage = self._measured(candidate, self._outputs.damage)
        if damage < self.damage:
            self.repaired, self.damage = candidate, damage

    def least(self, candidate: Repaired) -> float:
        """About the least damage that a candidate can have with offsets."""
        return -float("inf") if self._outputs.least is None else self._measured(candidate, self._outputs.least)

    def _measured(self, candidate: Repaired, damage: Callable[[onnx.ModelProto], float]) -> float:
        try:
            return damage(prune_channels(self._cut, candidate.replacements))
        except ModelError:  # what does not run is no candidate
            return float("inf")


def _centered(cut: Cut, candidate: Repaired, offsets: Callable[[onnx.ModelProto], Offsets]) -> Repaired:
    try:
        missing = offsets(prune_channels(cut, candidate.replacements))
    except ModelError:
        return candidate
    return centered(cut, candidate, missing)


_WORSE = "the outputs were closer to the original's without it"
