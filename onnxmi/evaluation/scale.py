"""What errors of one group of answers are divided by, and those errors row by row."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxmi.evaluation.divergence import class_divergences, divergences, entropies, probabilities
from onnxmi.outputs.view import View
from onnxmi.typing import Floats, Ints

SHOWN_INFORMATION = 0.01  # of the group's, from which on a class is named as the worst column


@dataclass(frozen=True, eq=False)
class Scale:
    """What the error of one view is divided by.

    Attributes
    ----------
    spread : (columns,) float64
        Variance of each column round its own mean, over rows; the column's own mean square where it does not move.
    information : (columns,) float64 or None
        Nats a row that each class carries (all in the first entry for softmax); None where answers do not differ or
        the view holds numbers.
    mean : (columns,) float64
        Mean number of each column, or mean probability of each class: what a constant would say.
    classes : (shown,) int64
        Softmax classes whose answer, against all others, carries a share worth showing.
    apart : (shown,) float64
        Nats a row that each of them carries.
    """

    spread: Floats
    information: Floats | None
    mean: Floats
    classes: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    apart: Floats = field(default_factory=lambda: np.zeros(0))

    def row_errors(self, view: View, wanted: Floats, made: Floats) -> Floats:
        """(rows, columns) of what each column is off; not finite where `made` is not."""
        with np.errstate(all="ignore"):
            if self.information is not None:
                found = divergences(view.link, wanted, made)
            else:
                error = made - wanted
                if view.link == "softmax":  # a shift of all logits is no error
                    error -= error.mean(1, keepdims=True)
                found = np.square(error)
        return np.where(np.isfinite(found), found, np.inf)

    def damages(self, errors: Floats) -> Floats:
        """(...,) the damage that errors (..., columns) of rows, or their means, stand for."""
        if self.information is None:
            return np.asarray((errors / self.spread).mean(-1))
        return np.asarray(errors.sum(-1) / self.information.sum())

    def shown(self, view: View) -> Ints:
        """Columns of which one may be named as the worst; none where a column means nothing by itself."""
        if view.link == "softmax":
            return self.classes
        if self.information is None:
            return np.arange(len(self.spread))
        return np.flatnonzero(self.information >= SHOWN_INFORMATION * float(self.information.sum()))

    def usual(self, view: View) -> Floats:
        """(shown,) what a constant is off a row on the fit samples."""
        if view.link == "softmax":
            return self.apart
        return (self.spread if self.information is None else self.information)[self.shown(view)]

    def shown_errors(self, view: View, wanted: Floats, made: Floats, errors: Floats) -> Floats:
        """(rows, shown) errors of these columns, given the errors of all."""
        if view.link == "softmax":
            return class_divergences(wanted, made, self.classes)
        return errors[:, self.shown(view)]

    def constant_errors(self, view: View, wanted: Floats) -> Floats:
        """(rows, shown) of what the mean answer of the fit samples is off, in the units of these columns' errors."""
        shown = self.shown(view)
        if self.information is None:
            return np.asarray(np.square(wanted - self.mean)[:, shown])
        chances = probabilities(view.link, wanted)[:, shown]
        mean = np.clip(self.mean[shown], 1e-300, 1.0)
        # KL(answer || mean answer) of "this class or another": the cross entropy less the entropy.
        crossed = -chances * np.log(mean) - (1.0 - chances) * np.log(np.maximum(1.0 - mean, 1e-300))
        return np.asarray(np.maximum(crossed - entropies("sigmoid", chances), 0.0))
