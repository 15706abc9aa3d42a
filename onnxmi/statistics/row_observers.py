"""What may be taken beside moments of the rows that a linear operator reads: observers see them batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from onnxmi.information import ClassMeans
from onnxmi.model import Model
from onnxmi.statistics.row_sampling import Batch
from onnxmi.statistics.shared_inputs import LinearInput
from onnxmi.typing import Array, Floats, Ints

MAX_CLASSES = 1_024  # labels beyond it are not classes


class RowObserver(Protocol):
    """Sees all rows of one shared input that moments are taken of."""

    def update(self, number: int, rows: Array, samples: Ints, batch: Batch) -> None:
        """Take in rows of one batch.

        Parameters
        ----------
        number : int
            Of the set of samples.
        rows : (groups, N, K)
            The input features.
        samples : (N,) int64
            The sample of the batch that each row is of.
        batch : Batch
            Its samples and their labels.
        """


class Measure(RowObserver, Protocol):
    """Measures something of each operator that reads the input, for a score that asks for it."""

    def result(self) -> Mapping[str, Floats]:
        """Linear.key -> (groups, K, M), what was measured on the first set."""


MeasureFactory = Callable[[Model, LinearInput, int], Measure]
"""Makes a measure for one shared input, of which so many rows are wanted."""


class ClassObserver:
    """Means by class of one input's features: what a score against labels needs."""

    def __init__(self, n_sets: int) -> None:
        """Start with no rows."""
        self.means: list[ClassMeans | None] = [None] * n_sets

    def update(self, number: int, rows: Array, samples: Ints, batch: Batch) -> None:
        """Take in rows of one batch; not of a batch without labels, or with labels that are not classes."""
        labels = batch.labels
        if labels is None or labels.max(initial=0) >= MAX_CLASSES or samples.max(initial=0) >= batch.count:
            return
        fresh, so_far = ClassMeans.of(rows, labels[samples]), self.means[number]
        self.means[number] = fresh if so_far is None else so_far.merge(fresh)


@dataclass(frozen=True)
class Observers:
    """The observers of one shared input.

    Attributes
    ----------
    classes : ClassObserver or None
        For a score against labels.
    measure : Measure or None
        For a score that needs more than moments.
    """

    classes: ClassObserver | None = None
    measure: Measure | None = None

    def update(self, number: int, rows: Array, samples: Ints, batch: Batch) -> None:
        """Show rows to each; see `RowObserver.update`."""
        for observer in (self.classes, self.measure):
            if observer is not None:
                observer.update(number, rows, samples, batch)
