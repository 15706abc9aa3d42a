"""How far two models' answers are apart: the one measure that prices, sensitivities, repairs and results share.

An error is counted in units of what the original has to say, group by group, so that units of measure, offsets and
other outputs change nothing:

- numbers: the squared error of a column over the variance of that column round its own mean;
- probabilities (before a last Sigmoid or Softmax): KL(original || cut) over KL(original || the mean answer), both
  from the logits and pooled over classes. The denominator is the mutual information between sample and answer, in
  nats: 1 is as bad as giving every sample the mean answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxmi.evaluation.column_errors import ColumnErrors
from onnxmi.evaluation.divergence import entropies, fisher_root, probabilities
from onnxmi.evaluation.sample_spread import SampleSpread
from onnxmi.evaluation.scale import SHOWN_INFORMATION, Scale
from onnxmi.outputs.view import View, column_rows
from onnxmi.typing import Array, Floats, Ints

Values = Mapping[str, Array]

STILL = 1e-8  # share of a column's mean square below which its variance is rounding
LEAST_INFORMATION = 1e-7  # nats a row below which answers do not differ: logits are compared as numbers then


@dataclass(frozen=True)
class Part:
    """The damage of one view.

    Attributes
    ----------
    view : View
        Which.
    error : float
        1 is as bad as a constant; infinite where something is not finite.
    column : int or None
        The worst column, where there are several.
    worst : float
        Its error.
    elsewhere : float or None
        The largest error of any column without the sample that it is off most on; None where that is not known.
    standard_error : float
        Of the error, by how it differs from sample to sample; 0 where it is not known.
    """

    view: View
    error: float
    column: int | None
    worst: float
    elsewhere: float | None = None
    standard_error: float = 0.0


@dataclass(frozen=True)
class Damage:
    """How far a model's answers are from the original's; 0 where they are equal, 1 where nothing is left of them.

    Attributes
    ----------
    parts : tuple of Part
        One a view.
    """

    parts: tuple[Part, ...]

    @property
    def total(self) -> float:
        """Mean over the views by their weights."""
        # A weight of 0 for all views is possible: then there is nothing to lose.
        weights = sum(part.view.weight for part in self.parts)
        return sum(part.view.weight * part.error for part in self.parts) / weights if weights else 0.0

    @property
    def worst(self) -> Part | None:
        """The view that lost most; states that are fed back only where there is nothing else."""
        told = [part for part in self.parts if part.view.kind != "state"] or list(self.parts)
        return max(told, key=lambda part: part.error, default=None)


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The measure of one model, made once on the original's answers.

    Attributes
    ----------
    views : tuple of View
        What is compared. A view whose columns differ in number between samples has one column here.
    scales : tuple of Scale
        One a view.
    rows : tuple of int
        How many rows of each view were measured.
    """

    views: tuple[View, ...]
    scales: tuple[Scale, ...]
    rows: tuple[int, ...]

    @staticmethod
    def of(views: Sequence[View], batches: Callable[[], Iterable[tuple[Values, Values]]]) -> Yardstick:
        """Measure the original's answers.

        Parameters
        ----------
        views : sequence of View
            What is compared.
        batches : callable
            Returns an iterable of (values, counted) pairs: the original's tensors, and by tensor name which of its rows
            count, (rows,) bool; all where it is absent. It may be asked for twice.
        """
        tallies = {view.name: _Tally() for view in views}
        for values, counted in batches():
            for view in views:
                tallies[view.name].add(view, values[view.tensor], counted.get(view.tensor))
        uneven = [view for view in views if tallies[view.name].uneven]
        if uneven:  # nothing can be said of columns that are not the same ones in every sample
            plain = {view.name: View(**{**vars(view), "axes": ()}) for view in uneven}
            return Yardstick.of([plain.get(view.name, view) for view in views], batches)
        found = [tallies[view.name] for view in views]
        scales = tuple(tally.scale(view) for tally, view in zip(found, views, strict=True))
        return Yardstick(tuple(views), scales, tuple(tally.count for tally in found))

    def errors(self) -> Errors:
        """Return sums to add batches to."""
        return Errors(self)

    def damage(self, reference: Values, made: Values, counted: Values | None = None) -> Damage:
        """Compare one batch of two models' answers."""
        errors = self.errors()
        errors.add(reference, made, counted or {})
        return errors.damage()

    def seeds(
        self, values: Values, signs: Callable[[str, tuple[int, ...]], Array], rows: Mapping[str, Floats]
    ) -> dict[str, Array]:
        """Return upper gradients whose product with an error has the damage of that error for its mean square.

        Parameters
        ----------
        values : mapping
            The original's tensors, of one batch.
        signs : callable(tensor, shape)
            Random signs, one an entry.
        rows : mapping of tensor name to (rows,) float64
            What each row of a view counts, in shares of its sample; 0 at padding.

        Returns
        -------
        dict
            Tensor name -> array of its shape.
        """
        total = sum(view.weight for view in self.views) or 1.0
        found: dict[str, Array] = {}
        for view, scale in zip(self.views, self.scales, strict=True):
            value = values[view.tensor]
            sign = column_rows(np.asarray(signs(view.tensor, value.shape), dtype=np.float64), view.axes)
            upper = _roots(view, scale, column_rows(value, view.axes), sign)
            # Roots, as the product is squared: each sample and each view then counts by its share.
            upper *= np.sqrt(rows[view.tensor] * view.weight / total)[:, None]
            found[view.tensor] = _as_tensor(upper, value.shape, view.axes).astype(np.float32)
        return found


class Errors:
    """Errors of a model's answers, summed batch by batch."""

    def __init__(self, yardstick: Yardstick) -> None:
        self._yardstick = yardstick
        self._sums = [np.zeros(scale.spread.shape) for scale in yardstick.scales]
        self._columns = [
            ColumnErrors(view, scale) for view, scale in zip(yardstick.views, yardstick.scales, strict=True)
        ]
        self._rows = [0] * len(self._sums)
        self._spreads = [SampleSpread() for _ in self._sums]

    def add(self, reference: Values, made: Values, counted: Values) -> None:
        """Add a batch.

        Parameters
        ----------
        reference, made : mapping of tensor name to array
            The original's and the other model's. A view that `reference` lacks is not added to; one that `made` lacks
            is the original's own.
        counted : mapping of tensor name to (rows,) bool
            Which rows count; all where it is absent.
        """
        for number, (view, scale) in enumerate(zip(self._yardstick.views, self._yardstick.scales, strict=True)):
            if view.tensor not in reference:
                continue
            wanted = _rows_of(view, reference[view.tensor], counted.get(view.tensor))
            self._rows[number] += len(wanted)
            samples = _samples_of_rows(view, np.shape(reference[view.tensor]), counted.get(view.tensor))
            other = made.get(view.tensor)
            if other is None:
                self._columns[number].add(wanted, None, samples)
                self._spreads[number].add(np.zeros(len(wanted)), samples)
                continue
            if np.shape(other) != np.shape(reference[view.tensor]):
                # Another shape cannot be compared: all is lost.
                self._sums[number] += np.inf
                continue
            got = _rows_of(view, other, counted.get(view.tensor))
            errors = scale.row_errors(view, wanted, got)
            self._sums[number] += errors.sum(0)
            self._spreads[number].add(scale.damages(errors), samples)
            self._columns[number].add(wanted, scale.shown_errors(view, wanted, got, errors), samples)

    def damage(self) -> Damage:
        """Return the damage of all that was added."""
        yardstick = self._yardstick
        sums = self._sums, self._columns, self._rows, self._spreads
        return Damage(tuple(map(_part, yardstick.views, yardstick.scales, *sums)))


# -- the original's answers -------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Tally:
    """Moments of one view's columns, and of its probabilities."""

    count: int = 0
    uneven: bool = False
    mean: Floats = field(default_factory=lambda: np.zeros(0))
    scatter: Floats = field(default_factory=lambda: np.zeros(0))
    chances: Floats = field(default_factory=lambda: np.zeros(0))
    entropy: Floats = field(default_factory=lambda: np.zeros(0))
    apart: Floats = field(default_factory=lambda: np.zeros(0))

    def add(self, view: View, value: Array, counted: Array | None) -> None:
        rows = _rows_of(view, value, counted)
        if not self.count:
            self.mean, self.scatter, self.chances, self.entropy, self.apart = np.zeros((5, rows.shape[1]))
        if rows.shape[1] != len(self.mean):
            self.uneven = True
        if self.uneven or not len(rows):
            return
        # A softmax does not change when a constant is added to all logits of a row.
        centered = rows if view.link != "softmax" else rows - rows.mean(1, keepdims=True)
        # Chan, Golub and LeVeque (1979): means of batches differ, so squares round one fixed point would cancel.
        mean, total = centered.mean(0), self.count + len(rows)
        shift = mean - self.mean
        self.scatter += np.square(centered - mean).sum(0) + np.square(shift) * (self.count * len(rows) / total)
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total
        if view.link != "identity":
            chances = probabilities(view.link, rows)
            self.chances += chances.sum(0)
            self.entropy += entropies(view.link, chances).sum(0)
            self.apart += entropies("sigmoid", chances).sum(0)  # of each class against all others

    def scale(self, view: View) -> Scale:
        count = max(self.count, 1)
        spread, information = _spread(self.scatter / count, self.mean), self._information(view, count)
        mean = self.mean if information is None else self.chances / count
        if information is None or view.link != "softmax":
            return Scale(spread, information, mean)
        apart = np.maximum(entropies("sigmoid", (self.chances / count)[None])[0] - self.apart / count, 0.0)
        classes = np.flatnonzero(apart >= SHOWN_INFORMATION * information.sum())
        return Scale(spread, information, mean, classes, apart[classes])

    def _information(self, view: View, count: int) -> Floats | None:
        if view.link == "identity" or not len(self.mean):
            return None
        # KL(answers || mean answer) in the mean over rows is the entropy of the mean less the mean entropy.
        carried = np.maximum(entropies(view.link, (self.chances / count)[None])[0] - self.entropy / count, 0.0)
        return carried if carried.sum() > LEAST_INFORMATION else None


def _spread(variance: Floats, mean: Floats) -> Floats:
    """Replace the variance of columns that do not move by their own size, or by the others' spread."""
    size = variance + np.square(mean)
    still = variance <= STILL * size
    others = float(variance[~still].mean()) if not still.all() else 1.0
    own = np.where(size > 0, size, others)
    return np.asarray(np.where(still, own, variance), dtype=np.float64)


# -- rows -------------------------------------------------------------------------------------------------------------


def _rows_of(view: View, value: Array, counted: Array | None) -> Floats:
    rows = column_rows(np.asarray(value), view.axes).astype(np.float64)
    return rows if counted is None else rows[counted]


def _as_tensor(rows: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Undo `column_rows`."""
    others = [size for axis, size in enumerate(shape) if axis not in axes]
    moved = rows.reshape((*others, *(shape[axis] for axis in axes)))
    return np.moveaxis(moved, range(len(others), len(shape)), axes)


def _samples_of_rows(view: View, shape: tuple[int, ...], counted: Array | None) -> Ints | None:
    """Return the number of the sample that each row is of, (rows,); None where there is no axis of samples."""
    if view.sample_axis is None or view.sample_axis in view.axes:
        return None
    others = [axis for axis in range(len(shape)) if axis not in view.axes]
    numbers = np.arange(shape[view.sample_axis])
    along = np.expand_dims(numbers, [place for place, axis in enumerate(others) if axis != view.sample_axis])
    rows = np.broadcast_to(along, [shape[axis] for axis in others]).reshape(-1)
    return rows if counted is None else rows[counted]


def _part(view: View, scale: Scale, sums: Floats, columns: ColumnErrors, rows: int, spread: SampleSpread) -> Part:
    if not rows or not len(sums):
        return Part(view, 0.0, None, 0.0)
    if not np.isfinite(sums).all():
        return Part(view, float("inf"), None, float("inf"))
    error, standard_error = float(scale.damages(sums / rows)), spread.standard_error
    worst = columns.worst() if len(sums) > 1 else None
    if worst is None:
        return Part(view, error, None, error, standard_error=standard_error)
    return Part(view, error, worst.column, worst.error, worst.elsewhere, standard_error)


def _roots(view: View, scale: Scale, logits: Array, signs: Floats) -> Floats:
    """Return rows r for which E[(r' e)^2] is the damage of a small error e of a row."""
    if scale.information is None:
        centered = signs - signs.mean(1, keepdims=True) if view.link == "softmax" else signs
        return np.asarray(centered / np.sqrt(scale.spread * len(scale.spread)))
    root = fisher_root(view.link, np.asarray(logits, dtype=np.float64), signs)
    return np.asarray(root / np.sqrt(2 * float(scale.information.sum())))  # KL is half of the Fisher form
