"""What a model is worth on a panel of samples: its damage, and what it loses of metrics that people know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from onnxmi.errors import UsageError
from onnxmi.evaluation.damage_limits import excess
from onnxmi.evaluation.evaluation_set import EvaluationSet
from onnxmi.evaluation.metrics import Metric, find_metric
from onnxmi.evaluation.output_metrics import (
    ComparedOutput,
    MetricValue,
    OutputMetric,
    compared_outputs,
    find_output_metric,
    fits,
    measure_metric,
    metrics_for,
)
from onnxmi.evaluation.unpadded import without_padding
from onnxmi.evaluation.yardstick import Damage, Part
from onnxmi.outputs.view import Answers
from onnxmi.typing import Array

FORETOLD_ERROR = 2.0  # standard error of a loss that is not counted as the damage foretells it, over what is allowed
STANDARD_ERRORS = 1.0  # that are added to a damage: a search takes what is least by chance, too
FORETELLING = 200  # samples of which a count tells a loss of one point as well as the damage does, to 0.7 points
BY_MARGINS = 50  # samples of which margins do, of the original's own answers: none of these can be gained


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
    fitted : Judgement or None
        The same on samples that weights were fitted to, where the others are few: too mild, and better known.
    """

    answers: Answers
    damage: Damage
    readings: Mapping[str, tuple[MetricValue, ...]]
    fitted: Judgement | None = None

    def excess(self, drop: float) -> float:
        """Return how many times what is allowed is lost: of the damage or, if that is more, of what is expected.

        A loss is rare and large: a few answers that change. Of 73 samples that nothing was fitted to, a reader of
        digits had a damage of 0.3 %, of 80 others 3.0 %; of 398 that weights were fitted to, 2.4 %. So both are asked.

        Parameters
        ----------
        drop : float
            The loss that is allowed, points.
        """
        damage = excess(self.damage, drop, STANDARD_ERRORS)
        own = max(damage, self.expected_loss(drop) / drop)
        return own if self.fitted is None else max(own, self.fitted.excess(drop))

    def worst(self, drop: float) -> Part | None:
        """Return the output that exceeds what goes with a loss most, on whatever samples."""
        told = self if self.fitted is None else max(self, self.fitted, key=lambda one: excess(one.damage, drop))
        return told.damage.worst

    @property
    def decisive(self) -> MetricValue:
        """The first metric of the output that loses most."""
        # NaN counts as the worst: what is no number has lost everything.
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
        return self.decisive.loss.error

    def expected_loss(self, drop: float) -> float:
        """Return the points that are lost in all likelihood: what is measured, and what the damage foretells.

        A few samples cannot count a small loss: of 123, two more wrong answers are 1.6 points, and are the same two at
        whatever cost where the original decides them by a hair. The damage is known much better, but what it foretells
        is a rule of thumb. So both are averaged, the damage with the weight of `FORETELLING` samples: of many samples
        the count decides. What is not counted sample by sample has the weight that its interval gives it: a
        correlation is known as well as the damage, the F1 of a map with four boxes on it is not.
        Margins tell what is lost of classes more steadily than a count, and stand for it. With labels they weigh no
        more than it: answers that are lost and gained cancel, and the difference is less sure than either.
        Without any slack: with half of a standard error, a classifier of file types was let through on 106 samples
        and lost 2.4 points on 1,024 others.

        Parameters
        ----------
        drop : float
            The loss that is allowed, points: the damage foretells it where it is as large as is allowed.
        """
        foretold = excess(self.damage, drop) * drop
        decisive = (found[0] for found in self.readings.values())
        return max(_likely(reading, foretold, drop * FORETOLD_ERROR, self.answers.count) for reading in decisive)


def _likely(reading: MetricValue, foretold: float, foretold_error: float, samples: int) -> float:
    """Average a measured loss with what the damage foretells, points."""
    loss, measured = reading.loss, reading.loss.value
    if math.isnan(measured):  # what is no number has lost everything
        return math.inf
    if reading.foretold is not None:
        weight = samples / (BY_MARGINS if loss.flips_gained is None else FORETELLING)
        measured = reading.foretold
    elif loss.flips_lost is not None:
        weight = samples / FORETELLING
    elif loss.error:
        weight = (foretold_error / loss.error) ** 2  # of two estimates, by their variances
    else:
        return measured
    return (foretold + weight * measured) / (1 + weight)


@dataclass(frozen=True)
class RequestedMetric:
    """The metric that a user asked for, if any.

    Attributes
    ----------
    meter : Meter or None
        One that knows kinds: it is taken of all outputs that it fits, beside their own.
    metric : Metric or None
        One of the first output alone.
    """

    meter: OutputMetric | None = None
    metric: Metric | None = None

    @staticmethod
    def of(name: str | None, *, has_labels: bool) -> RequestedMetric:
        """Find a metric by its name.

        Raises
        ------
        UsageError
            If there is none, or it needs labels and there are none.
        """
        if name is None:
            return RequestedMetric()
        meter = find_output_metric(name)
        if meter is None:
            return RequestedMetric(metric=find_metric(name, has_labels=has_labels))
        if meter.labels and not has_labels:
            raise UsageError(f"metric {meter.name}: needs labels, and the samples have none")
        return RequestedMetric(meter)


def judge(panel: EvaluationSet, asked: RequestedMetric, proto: onnx.ModelProto, *, every: bool = False) -> Judgement:
    """Run a model on a panel and compare it with the original; see `judge_answers`.

    Raises
    ------
    ModelError
        If it does not run.
    UsageError
        If the metric does not fit the outputs.
    """
    return judge_answers(panel, asked, panel.answers(proto), every=every)


def judge_answers(panel: EvaluationSet, asked: RequestedMetric, answers: Answers, *, every: bool = False) -> Judgement:
    """Compare answers with the original's.

    Parameters
    ----------
    every : bool
        Take all metrics that fit each output, as a report does; else the one that decides, as a search does. Resampling
        and the matching of boxes take longer than running a small model.
    """
    first = _of_first(panel, asked, answers) if asked.metric is not None else None
    readings = _by_kind(panel, asked.meter, answers, every=every) if first is None else first
    return Judgement(answers, panel.damage(answers), readings)


def _by_kind(
    panel: EvaluationSet, wanted: OutputMetric | None, answers: Answers, *, every: bool
) -> dict[str, tuple[MetricValue, ...]]:
    labels = panel.labels
    meaning, (first, second) = without_padding(panel.meaning, panel.padding, panel.reference, answers)
    told = compared_outputs(meaning, first, labels)
    # States are fed back into the model and mean nothing by themselves, unless there is nothing else.
    told = tuple(subject for subject in told if subject.kind != "state") or told
    fitting = [subject for subject in told if wanted is None or fits(wanted, subject, first, labels)]
    if not fitting:
        raise UsageError(f"metric {wanted.name if wanted else ''}: fits none of the outputs")
    return {subject.name: metric_values(subject, wanted, first, second, labels, every=every) for subject in fitting}


def metric_values(
    subject: ComparedOutput,
    wanted: OutputMetric | None,
    original: Answers,
    made: Answers,
    labels: Array | None,
    *,
    every: bool = True,
) -> tuple[MetricValue, ...]:
    """Take the metrics of an output, the one that decides first: what was asked for, else the first that fits."""
    own = {meter.name: meter for meter in metrics_for(subject, original, labels)}
    meters = list((own if wanted is None else {wanted.name: wanted, **own}).values())
    return tuple(measure_metric(meter, subject, original, made, labels) for meter in (meters if every else meters[:1]))


def _of_first(panel: EvaluationSet, asked: RequestedMetric, answers: Answers) -> dict[str, tuple[MetricValue, ...]]:
    assert asked.metric is not None
    reference, made = panel.first_output(panel.reference), panel.first_output(answers)
    if reference is None or made is None:
        raise UsageError(f"metric {asked.metric.name}: no output has a plain array of one size for every sample")
    return {panel.first or "": (asked.metric.reading(reference, made, panel.labels),)}
