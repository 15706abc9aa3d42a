"""What a model is worth on a panel of samples: its damage, and what it loses of a metric."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from onnxmi.metrics import Metric
from onnxmi.outputs.panel import Panel
from onnxmi.outputs.view import Answers
from onnxmi.outputs.yardstick import Damage


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model is worth.

    Attributes
    ----------
    answers : Answers
        What it answers.
    damage : Damage
        How far its answers are from the original's.
    value, original : float
        The metric of the model and of the original.
    drop : float
        Points of the metric that are lost.
    error : float or None
        Standard error of the drop; None where it is not known.
    """

    answers: Answers
    damage: Damage
    value: float
    original: float
    drop: float
    error: float | None

    def contradicts(self, drop: float) -> bool:
        """Whether the samples speak against a loss of at most `drop`: it is exceeded by more than a standard error.

        Counts on some hundred samples resolve about a point; what they cannot decide is decided by the damage.
        """
        return self.drop - (self.error or 0.0) > drop


def judge(panel: Panel, metric: Metric, proto: onnx.ModelProto) -> Judgement:
    """Run a model on a panel and compare it with the original.

    Raises
    ------
    ModelError
        If it does not run.
    UsageError
        If the metric does not fit the outputs.
    """
    answers = panel.answers(proto)
    damage = panel.damage(answers)
    reference, made, labels = panel.first_output(panel.reference), panel.first_output(answers), panel.labels
    if reference is None or made is None:
        lost = 0.0 if damage.worst is None else damage.worst.error
        return Judgement(answers, damage, 1.0 - lost, 1.0, lost, None)
    value, original = metric.value(reference, made, labels), metric.value(reference, reference, labels)
    drop, error = metric.drop(reference, made, labels), metric.standard_error(reference, made, labels)
    return Judgement(answers, damage, value, original, drop, error)
