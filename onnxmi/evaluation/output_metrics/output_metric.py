"""What a metric is: what each sample contributes, how contributions make a figure, and where that figure lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Literal

import numpy as np

from onnxmi.evaluation.loss import Loss, Unit
from onnxmi.information import intervals
from onnxmi.information.intervals import Combine, Span
from onnxmi.outputs.view import Answers, Kind, View
from onnxmi.typing import Array, Floats

Rule = Literal["share", "mean", "resampled"]
BLOCK_BYTES = 2**24  # of answers that are arranged at once


@dataclass(frozen=True)
class ComparedOutput:
    """What a metric is taken of: a view, or all that make up the detections of a model.

    Attributes
    ----------
    name : str
        Of the view; of the graph outputs for detections.
    kind : str
        See `onnxmi.outputs.view.KINDS`.
    views : tuple of View
        At least one.
    outputs : tuple of str
        Graph outputs that boxes are read from; none for other kinds.
    """

    name: str
    kind: Kind
    views: tuple[View, ...]
    outputs: tuple[str, ...] = ()

    @property
    def view(self) -> View:
        """The first view, which is the only one but for detections."""
        return self.views[0]


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each sample contributes to a metric of two models.

    Attributes
    ----------
    was, now : (samples, parts) float64
        Of the original and of the cut model.
    lost, gained : int or None
        Answers that were right and are wrong now, and the other way round. None where nothing is counted.
    own : bool
        Whether the original's own answers are what is right, so that nothing can be gained.
    """

    was: Floats
    now: Floats
    lost: int | None = None
    gained: int | None = None
    own: bool = True


@dataclass(frozen=True)
class OutputMetric:
    """A metric of one output.

    Attributes
    ----------
    name : str
        As the user spells it.
    measure : callable(subject, original's answers, cut model's answers, labels)
        Returns `Contributions`. The original is measured by the same metric, against itself where there are no labels.
    combine : callable((samples, parts), (draws, samples))
        Returns the metric, (draws,), of samples that are drawn so many times each.
    rule : str
        share: parts are hits and trials of each sample; mean: one part, a number a sample; resampled: neither.
    labels : bool
        Whether it needs them.
    unit : str
        points, nats or dB.
    higher_is_better : bool
        False for an error.
    foretell : callable, optional
        As `measure`; returns the loss that margins foretell, or None.
    """

    name: str
    measure: Callable[[ComparedOutput, Answers, Answers, Array | None], Contributions]
    combine: Combine
    rule: Rule = "share"
    labels: bool = False
    unit: Unit = "points"
    higher_is_better: bool = True
    foretell: Callable[[ComparedOutput, Answers, Answers, Array | None], float | None] | None = None

    def value(self, parts: Floats) -> float:
        """Return the metric of all samples; NaN where they have none."""
        with np.errstate(all="ignore"):
            return float(self.combine(parts, np.ones((1, len(parts))))[0])


@dataclass(frozen=True)
class MetricValue:
    """A metric of two models.

    Attributes
    ----------
    metric : str
        Its name.
    was, now : float
        The original's and the cut model's.
    loss : Loss
        With its interval.
    foretold : float or None
        The loss that margins foretell, in the same unit.
    """

    metric: str
    was: float
    now: float
    loss: Loss
    foretold: float | None = None

    @property
    def text(self) -> str:
        """For people: `accuracy 0.9140 -> 0.9100, 0.4 points lost [-0.9, 1.7] on 238 samples`."""
        return f"{self.metric} {self.was:.4f} -> {self.now:.4f}, {self.loss.text}"


def measure_metric(
    meter: OutputMetric,
    subject: ComparedOutput,
    original: Answers,
    cut: Answers,
    labels: Array | None = None,
    seed: int = 0,
) -> MetricValue:
    """Measure what a cut model loses at one output.

    Parameters
    ----------
    meter : Meter
        One of those that fit the subject.
    subject : Subject
        What is compared.
    original, cut : Answers
        Of the same samples.
    labels : array, optional
        One entry a sample, or one a position.
    seed : int
        Of the resamples.
    """
    with np.errstate(all="ignore"):  # what is not finite is dealt with where it comes out
        found = meter.measure(subject, original, cut, labels)
    sign = 1.0 if meter.higher_is_better else -1.0
    was, now = meter.value(found.was), meter.value(found.now)
    lost = sign * (was - now)
    # NaN instead of a number is the worst loss, and not an unknown one.
    if not math.isfinite(now) and math.isfinite(was):  # of outputs that are no numbers
        lost = math.inf
    span = _span(meter, found, sign, seed) if math.isfinite(lost) else None
    low, high = (-math.inf, math.inf) if span is None else span
    loss = Loss(lost, low, high, len(found.now), found.lost, found.gained, meter.name, meter.unit)
    foretold = None if meter.foretell is None else meter.foretell(subject, original, cut, labels)
    return MetricValue(meter.name, was, now, loss, foretold)


def _span(meter: OutputMetric, found: Contributions, sign: float, seed: int) -> Span | None:
    if meter.rule == "share":
        return _own_answers(found.now) if found.own else _paired(found.was, found.now)
    if meter.rule == "mean":
        return intervals.mean(sign * (found.was[:, 0] - found.now[:, 0]))
    first, second = (found.was, found.now) if sign > 0 else (found.now, found.was)
    return intervals.bootstrap(meter.combine, first, second, seed=seed)


def _own_answers(now: Floats) -> Span:
    """Return the interval of what is lost of the original's own answers, of which nothing can be gained."""
    missed, weights = now[:, 1] - now[:, 0], now[:, 1]
    total = float(weights.sum())
    lost = float(missed.sum()) / total if total else 0.0
    # Answers of one sample are alike, so they count as fewer trials than there are answers.
    trials = intervals.effective_trials(missed - lost * weights, weights, lost * (1 - lost))
    return intervals.share(lost * trials, trials)


def _paired(was: Floats, now: Floats) -> Span:
    """Return the interval of the difference of two models' right answers."""
    weights, lost = was[:, 1], was[:, 0] - now[:, 0]
    total = float(weights.sum()) or 1.0
    # Discordant pairs alone carry information about a difference (McNemar).
    down, up = float(lost.clip(min=0).sum()) / total, float((-lost).clip(min=0).sum()) / total
    delta = down - up
    trials = intervals.effective_trials(lost - delta * weights, weights, down + up - delta * delta)
    return intervals.difference_of_shares(down * trials, up * trials, trials)


# -- how contributions make a figure ----------------------------------------------------------------------------------


def ratio(parts: Floats, draws: Floats) -> Floats:
    """Return hits over trials."""
    totals = draws @ parts
    return np.asarray(totals[:, 0] / totals[:, 1])


def average(parts: Floats, draws: Floats) -> Floats:
    """Return the mean over samples of one number each."""
    return np.asarray((draws @ parts[:, 0]) / draws.sum(1))


def mean_of_classes(parts: Floats, draws: Floats) -> Floats:
    """Return the mean over classes of hits over trials; those that no drawn sample has are left out."""
    hits, trials = np.split(draws @ parts, 2, axis=1)
    # A resample may lack all samples of a rare class.
    there = trials > 0
    each = np.where(there, hits / np.where(there, trials, 1.0), 0.0)
    return np.asarray(each.sum(1) / there.sum(1))


# -- answers as rows --------------------------------------------------------------------------------------------------


def sample_axes(view: View) -> tuple[int, ...]:
    """Return the axes of the columns in one sample's array, which lacks the sample axis."""
    if view.sample_axis is None:
        return view.axes
    return tuple(axis - (axis > view.sample_axis) for axis in view.axes)


def rows_of(view: View, answers: Answers) -> Iterator[Floats]:
    """Yield each sample's answer as (rows, columns)."""
    return _arranged(answers.values[view.tensor], sample_axes(view))


def row_pairs(view: View, original: Answers, cut: Answers) -> Iterator[tuple[Floats, Floats]]:
    """Yield each sample's answers by both models, as (rows, columns).

    Where the cut model answers with another shape, nothing of it can be compared: NaN stands for it.
    """
    axes, before, after = sample_axes(view), original.values[view.tensor], cut.values[view.tensor]
    # An answer of another size is wrong at every position.
    comparable = (
        second if first.shape == second.shape else np.full(first.shape, np.nan)
        for first, second in zip(before, after, strict=True)
    )
    return zip(_arranged(before, axes), _arranged(comparable, axes), strict=True)


def _arranged(arrays: Iterable[Array], axes: tuple[int, ...]) -> Iterator[Floats]:
    """Yield arrays as (rows, columns): the columns are the given axes, flattened in their order.

    Arrays of one shape that follow each other are arranged at once: for small answers of thousands of samples, moving
    the axes of each takes longer than what is then measured.
    """
    for shape, alike in groupby(arrays, key=lambda array: array.shape):
        size = max(8 * math.prod(shape), 1)  # bytes in float64
        while block := list(islice(alike, max(BLOCK_BYTES // size, 1))):
            stacked = np.stack(block).astype(np.float64, copy=False)
            moved = np.moveaxis(stacked, [axis + 1 for axis in axes], range(1 + len(shape) - len(axes), 1 + len(shape)))
            yield from moved.reshape(len(block), -1, math.prod(shape[axis] for axis in axes))
