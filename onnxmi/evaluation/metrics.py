"""Metrics: what a model's outputs are worth, and how many points of it a smaller model loses."""

from __future__ import annotations

import importlib
import math
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from onnxmi.errors import UsageError
from onnxmi.evaluation.loss import Loss
from onnxmi.evaluation.output_metrics import MetricValue
from onnxmi.information import intervals
from onnxmi.typing import Array, Floats

Score = Callable[[Array, Array, Array | None], Any]
"""(original model's outputs, outputs, labels) -> one number a sample, or one for all of them."""


@dataclass(frozen=True)
class Metric:
    """A metric of a model's first output.

    Attributes
    ----------
    name : str
        As the user spells it.
    labels : bool
        Whether it cannot do without labels.
    score : callable(reference, outputs, labels)
        Outputs have the samples on their first axis and the classes, if any, on their last. The original model
        is scored by the same function, with its own outputs in both places.
    higher_is_better : bool
        False for an error.
    paired : bool
        Whether `score` gives one number a sample, of which the metric is the mean.
    """

    name: str
    labels: bool
    score: Score
    higher_is_better: bool = True
    paired: bool = True

    def value(self, reference: Array, outputs: Array, labels: Array | None = None) -> float:
        """Return the metric of some outputs.

        Raises
        ------
        UsageError
            If the metric does not fit the outputs or the labels.
        """
        return float(np.mean(self._scores(reference, outputs, labels)))

    def drop(self, reference: Array, outputs: Array, labels: Array | None = None) -> float:
        """Return what is lost against the original model, in absolute points; below 0 where something is gained.

        Outputs that are no finite numbers lose infinitely much where the metric does not count them as wrong.
        """
        lost = float(np.mean(self._lost(reference, outputs, labels)))
        return lost if math.isfinite(lost) else math.inf

    def differences(self, reference: Array, outputs: Array, labels: Array | None = None) -> Floats | None:
        """Return (samples,) what each sample loses; None for a metric that is no mean over samples."""
        return self._lost(reference, outputs, labels) if self.paired else None

    def reading(self, reference: Array, outputs: Array, labels: Array | None = None) -> MetricValue:
        """Return the metric of both models, and the loss with its interval where it is a mean over samples."""
        lost = self.differences(reference, outputs, labels)
        span = None
        if lost is not None and len(lost) > 1 and np.isfinite(lost).all():
            # Differences sample by sample: what both models find hard cancels.
            span = intervals.mean(lost)
        low, high = (-math.inf, math.inf) if span is None else span
        loss = Loss(self.drop(reference, outputs, labels), low, high, len(reference), None, None, self.name)
        was, now = self.value(reference, reference, labels), self.value(reference, outputs, labels)
        return MetricValue(self.name, was, now, loss)

    def _lost(self, reference: Array, outputs: Array, labels: Array | None) -> Floats:
        was, now = self._scores(reference, reference, labels), self._scores(reference, outputs, labels)
        return was - now if self.higher_is_better else now - was

    def _scores(self, reference: Array, outputs: Array, labels: Array | None) -> Floats:
        if self.labels and labels is None:
            raise UsageError(f"metric {self.name}: needs labels, and the samples have none")
        if reference.shape != outputs.shape:
            raise UsageError(
                f"metric {self.name}: outputs of shape {outputs.shape} cannot be compared with {reference.shape}"
            )
        try:
            with np.errstate(all="ignore"):  # what is not finite is dealt with where it comes out
                return np.asarray(self.score(reference, outputs, labels), dtype=np.float64)
        except _MisfitError as error:
            raise UsageError(f"metric {self.name}: {error}") from error


class _MisfitError(Exception):
    """A metric does not fit the outputs: the message says why."""


# -- classes ----------------------------------------------------------------------------------------------------------


def has_classes(outputs: Array) -> bool:
    """Whether outputs name a class: two or more floats on the last axis, or integers that are classes themselves."""
    return outputs.dtype.kind != "f" or (outputs.ndim > 1 and outputs.shape[-1] > 1)


def _require_classes(outputs: Array) -> None:
    if not has_classes(outputs):
        raise _MisfitError(
            f"the first output, of shape {outputs.shape}, has no classes on its last axis; mse or cosine fit it"
        )


def _classes(outputs: Array) -> Array:
    """Return the class at each position; a row with NaN has none (-1)."""
    _require_classes(outputs)
    if outputs.dtype.kind != "f":
        return outputs
    return np.where(np.isnan(outputs).any(-1), -1, outputs.argmax(-1))


def _fitted_labels(labels: Array, positions: tuple[int, ...]) -> Array:
    if labels.size != math.prod(positions):
        raise _MisfitError(
            f"labels of shape {labels.shape} do not fit outputs that name classes at {positions} positions"
        )
    return labels.reshape(positions)


def _hits(reference: Array, outputs: Array, labels: Array | None, *, most: int) -> Floats:
    """Whether the label, or without labels the original model's class, is among the `most` largest entries.

    Entries that are equal are taken in their order, as argmax does; NaN is larger than anything but never a hit.
    """
    _require_classes(outputs)
    if outputs.dtype.kind != "f":
        if most > 1:
            raise _MisfitError("the first output has classes, not a number for each of them")
        right = reference if labels is None else _fitted_labels(labels, outputs.shape)
        return _each(outputs == right)
    classes = outputs.shape[-1]
    if most > 1 and most >= classes:
        raise _MisfitError(f"the first output has only {classes} classes")
    right = reference.argmax(-1) if labels is None else _fitted_labels(labels, outputs.shape[:-1])
    known = (right >= 0) & (right < classes)
    at = np.where(known, right, 0)[..., None]
    entry = np.take_along_axis(outputs, at, -1)
    # Ties go to the lower index, as in argmax; NaN is not below anything and so counts as ahead.
    ahead = ~(outputs <= entry) | ((outputs == entry) & (np.arange(classes) < at))
    return _each(known & (ahead.sum(-1) < most))


def _f1(_reference: Array, outputs: Array, labels: Array | None) -> float:
    """Mean of the classes' F1 over the classes that are labels or predictions."""
    assert labels is not None
    predicted = _classes(outputs)
    right = _fitted_labels(labels, predicted.shape)
    # Classes that nobody names have no F1, and would count as 0.
    classes, index = np.unique(np.concatenate([right.ravel(), predicted.ravel()]), return_inverse=True)
    truth, guess = np.split(index, 2)
    hits = np.bincount(truth[truth == guess], minlength=len(classes))
    total = np.bincount(truth, minlength=len(classes)) + np.bincount(guess, minlength=len(classes))
    return float(np.mean(2 * hits / total))


# -- numbers ----------------------------------------------------------------------------------------------------------


def _each(values: Array) -> Floats:
    """Return one number a sample: the mean over everything else."""
    return np.asarray(values.reshape(len(values), -1).mean(-1, dtype=np.float64))


def _numbers(outputs: Array) -> Floats:
    if outputs.dtype.kind not in "fiub":
        raise _MisfitError(f"the first output has dtype {outputs.dtype}, which is not a number")
    return np.atleast_1d(outputs).astype(np.float64)


def _squared_error(reference: Array, outputs: Array, _labels: Array | None) -> Floats:
    """Squared difference from the original model, relative to the variance of its output."""
    wanted = _numbers(reference)
    # A constant output has no variance to relate an error to.
    return _each(np.square(wanted - _numbers(outputs))) / (float(wanted.var()) or 1.0)


def _cosine(reference: Array, outputs: Array, _labels: Array | None) -> Floats:
    """Cosine between each sample's output and the original model's; 1 where both are zero."""
    a, b = (_numbers(values).reshape(len(reference), -1) for values in (reference, outputs))
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    inner: Floats = np.einsum("nd, nd -> n", a, b)
    # Equal vectors of length 0 have no cosine, but nothing is lost.
    same = (a == b).all(-1)
    cosine: Floats = np.where(lengths == 0, 0.0, inner / np.where(lengths == 0, 1.0, lengths))
    return np.asarray(np.where(same, 1.0, cosine), dtype=np.float64)


# -- a user's own -----------------------------------------------------------------------------------------------------


def _own(name: str) -> Metric:
    """Return a user's `module:function`, called as function(outputs, labels); more is better."""
    module, _, attribute = name.partition(":")
    try:
        with _current_folder_importable():
            function = operator.attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:  # a module that is imported may raise anything
        raise UsageError(f"metric {name}: cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise UsageError(f"metric {name}: is a {type(function).__name__}, not a function(outputs, labels)")
    return Metric(name, labels=False, score=partial(_call, function), paired=False)


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a user's folder gets no __pycache__
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")
        sys.dont_write_bytecode = written


def _call(function: Callable[[Array, Array | None], Any], _reference: Array, outputs: Array, labels: Any) -> float:
    try:
        value = float(function(outputs, labels))
    except Exception as error:  # it may raise anything
        raise _MisfitError(f"failed: {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise _MisfitError(f"returned {value}, not a finite number")
    return value


# -- the table --------------------------------------------------------------------------------------------------------

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", labels=True, score=partial(_hits, most=1)),
        Metric(
            "agreement", labels=False, score=lambda reference, outputs, _labels: _hits(reference, outputs, None, most=1)
        ),
        Metric("mse", labels=False, score=_squared_error, higher_is_better=False),
        Metric("cosine", labels=False, score=_cosine),
        Metric("f1", labels=True, score=_f1, paired=False),
    )
}
KNOWN = f"{', '.join(METRICS)}, top1, top5 or any other topK, or your own module:function"
"""What a user may ask for, in words."""


def find_metric(name: str | None, reference: Array | None = None, *, has_labels: bool) -> Metric:
    """Return a metric by its name.

    Parameters
    ----------
    name : str or None
        A key of `METRICS`, top1, top2, ..., or module:function. None for accuracy with labels and agreement without;
        for mse where the outputs name no class.
    has_labels : bool
        Whether the samples have labels.
    reference : array, optional
        The original model's outputs, to see whether they name a class.

    Raises
    ------
    UsageError
        If there is no such metric, it cannot be imported, or it needs labels and there are none.
    """
    if name is None:
        if reference is not None and not has_classes(reference):
            return METRICS["mse"]
        return METRICS["accuracy" if has_labels else "agreement"]
    metric = _by_name(name)
    if metric.labels and not has_labels:
        raise UsageError(f"metric {name}: needs labels, and the samples have none (agreement does without)")
    return metric


def _by_name(name: str) -> Metric:
    if ":" in name:
        return _own(name)
    plain = name.strip().lower()
    top = re.fullmatch(r"top-?([1-9][0-9]*)", plain)
    if top:
        return Metric(f"top{top[1]}", labels=False, score=partial(_hits, most=int(top[1])))
    if plain not in METRICS:
        raise UsageError(f"no metric {name!r}; there are {KNOWN}")
    return METRICS[plain]
