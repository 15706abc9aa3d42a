"""What a model is worth on a panel of samples: its damage, and what it loses of metrics that people know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from onnxmi.errors import UsageError
from onnxmi.information import intervals
from onnxmi.metrics import Metric
from onnxmi.outputs.loss import Loss
from onnxmi.outputs.meters import Reading, meters_for, subjects, take
from onnxmi.outputs.panel import Panel
from onnxmi.outputs.view import Answers
from onnxmi.outputs.yardstick import Damage

NORMAL = 1.96  # standard errors that hold 95 % to both sides


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model is worth.

    Attributes
    ----------
    answers : Answers
        What it answers.
    damage : Damage
        How far its answers are from the original's.
    readings : mapping of str to tuple of Reading
        Output -> its metrics, the one that decides first.
    """

    answers: Answers
    damage: Damage
    readings: Mapping[str, tuple[Reading, ...]]

    @property
    def decisive(self) -> Reading:
        """The first metric of the output that loses most."""
        firsts = [found[0] for found in self.readings.values()]
        return max(firsts, key=lambda reading: math.inf if math.isnan(reading.loss.value) else reading.loss.value)

    @property
    def drop(self) -> float:
        """Points that are lost of it; infinite where what comes out is no number."""
        value = self.decisive.loss.value
        return math.inf if math.isnan(value) else value

    @property
    def error(self) -> float | None:
        """Standard error of the drop; None where it is not known."""
        loss = self.decisive.loss
        return (loss.high - loss.low) / (2 * NORMAL) if loss.known else None

    def contradicts(self, drop: float) -> bool:
        """Whether the samples speak against a loss of at most `drop`: it is exceeded by more than a standard error.

        Counts on some hundred samples resolve about a point; what they cannot decide is decided by the damage.
        """
        return self.drop - (self.error or 0.0) > drop


def judge(panel: Panel, asked: Metric | None, proto: onnx.ModelProto) -> Judgement:
    """Run a model on a panel and compare it with the original.

    Parameters
    ----------
    asked : Metric or None
        A metric of the first output that the user asked for; None for those that fit each output.

    Raises
    ------
    ModelError
        If it does not run.
    UsageError
        If the metric does not fit the outputs.
    """
    answers = panel.answers(proto)
    readings = _fitting(panel, answers) if asked is None else _asked(panel, asked, answers)
    return Judgement(answers, panel.damage(answers), readings)


def _fitting(panel: Panel, answers: Answers) -> dict[str, tuple[Reading, ...]]:
    found: dict[str, tuple[Reading, ...]] = {}
    labels = panel.labels
    for subject in subjects(panel.meaning, panel.reference):
        if subject.kind != "state" or len(panel.meaning.views) == 1:
            meters = meters_for(subject, panel.reference, labels)
            found[subject.name] = tuple(take(meter, subject, panel.reference, answers, labels) for meter in meters)
    return found


def _asked(panel: Panel, metric: Metric, answers: Answers) -> dict[str, tuple[Reading, ...]]:
    reference, made, labels = panel.first_output(panel.reference), panel.first_output(answers), panel.labels
    if reference is None or made is None:
        raise UsageError(f"metric {metric.name}: no output has a plain array of one size for every sample")
    was, now = metric.value(reference, reference, labels), metric.value(reference, made, labels)
    differences = metric.differences(reference, made, labels)
    span = None
    if differences is not None and len(differences) > 1 and np.isfinite(differences).all():
        span = intervals.mean(differences)
    low, high = (-math.inf, math.inf) if span is None else span
    drop = metric.drop(reference, made, labels)
    loss = Loss(drop, low, high, len(panel.samples), None, None, metric.name)
    return {panel.first or "": (Reading(metric.name, was, now, loss),)}
