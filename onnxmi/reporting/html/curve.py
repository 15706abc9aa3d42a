"""The trade-off curve: what each of several cuts leaves, and what it costs in quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnxmi.errors import DataError
from onnxmi.reporting.html.fields import Fields
from onnxmi.reporting.html.reading import Run


@dataclass(frozen=True)
class Point:
    """One model on the curve.

    Attributes
    ----------
    label : str
        What was asked for.
    macs, size, parameters : float or None
        What is left of them, as shares of the original's.
    speedup : float or None
        How many times as fast as the original.
    quality : float or None
        In the unit of the curve.
    share : float or None
        Of the original's cost, that was aimed at.
    drop, error : float or None
        Points lost of the metric, and the standard error of that.
    fits : bool
        Whether it loses no more than was allowed.
    kind : str
        The cost that was aimed at.
    """

    label: str
    macs: float | None
    size: float | None
    parameters: float | None
    speedup: float | None
    quality: float | None
    share: float | None = None
    drop: float | None = None
    error: float | None = None
    fits: bool = True
    kind: str = ""


@dataclass(frozen=True)
class Curve:
    """Models of several sizes.

    Attributes
    ----------
    metric : str
        What the quality is measured by.
    points : tuple of Point
        In the order of what they cost.
    dense : float or None
        Quality of the original.
    here : Point or None
        The result of the run that the page is about.
    joined : bool
        Whether the points are of one kind, so that a line through them means something.
    named : str
        The metric that losses are counted in.
    """

    metric: str
    points: tuple[Point, ...]
    dense: float | None = None
    here: Point | None = None
    joined: bool = True
    named: str = ""


_COSTS = ("macs", "size", "parameters")
_DROP = "drop in {metric}"
# From the most telling to the least; a drop is what every run has.
_QUALITIES = (
    ("value", "{metric}"),
    ("accuracy", "accuracy"),
    ("agreement", "same top answer"),
    ("drop", _DROP),
)


def is_sweep(data: Mapping[str, Any]) -> bool:
    """Whether this is what `sweep --json` prints."""
    return isinstance(data.get("points"), list)


def read_sweep(data: Mapping[str, Any], where: str, run: Run | None = None) -> Curve:
    """Read the curve of a sweep; the run, if there is one, gets a place on it.

    Raises
    ------
    DataError
        If it is something else, or a field has another type.
    """
    if not is_sweep(data):
        raise DataError(f"{where}: is not what `onnxmi sweep --json` prints: it has no list `points`")
    fields = Fields(data, where)
    return _curve(fields.entries("points"), fields.fields("dense"), fields.text("metric"), run)


def read_trials(data: Mapping[str, Any], where: str, run: Run) -> Curve | None:
    """Read what was tried on the way to a budget; None if nothing was."""
    fields = Fields(data, where)
    trials = fields.entries("trials")
    return (
        replace(_curve(trials, fields.fields("before"), fields.text("metric"), run), joined=False) if trials else None
    )


def _curve(entries: tuple[Fields, ...], dense: Fields, named: str, run: Run | None) -> Curve:
    key, metric = next(
        ((key, name) for key, name in _QUALITIES if any(key in entry for entry in entries)), ("drop", _DROP)
    )
    named = named or next((entry.text("metric") for entry in entries if "metric" in entry), "quality")
    metric = metric.format(metric=named)
    whole = {cost: dense.number(cost) for cost in _COSTS}
    for quantity in run.quantities if run else ():
        cost = {"MACs a sample": "macs", "file size": "size", "parameters": "parameters"}.get(quantity.name, "")
        whole[cost] = whole.get(cost) or quantity.before
    points = sorted((_point(entry, key, whole) for entry in entries), key=lambda point: (point.macs or 0, point.label))
    best = {"drop": 0.0, "agreement": 1.0}.get(key, dense.number(key))
    return Curve(metric, tuple(points), best, _here(run, metric), named=named)


def _point(entry: Fields, key: str, whole: Mapping[str, float | None]) -> Point:
    macs, size, parameters = (_share(entry.number(cost), whole[cost]) for cost in _COSTS)
    share = entry.number("share") if macs is None else None
    costs = macs, size, parameters
    loss = entry.number("drop"), entry.number("drop_error" if "drop_error" in entry else "error")
    fits = entry.flag("fits") if "fits" in entry else True
    kind = entry.text("kind") if share is not None else ""
    return Point(_label(entry), *costs, entry.number("speedup"), entry.number(key), share, loss[0], loss[1], fits, kind)


_LABELS = {"keep": "keep", "target": "x", "share": "share"}  # what a model of the curve is called by


def _label(entry: Fields) -> str:
    numbers = ((spelled, entry.number(key)) for key, spelled in _LABELS.items() if key in entry)
    known = [f"{spelled} {number:.3g}" for spelled, number in numbers if number is not None]
    return ", ".join([*known[:1], *filter(None, [entry.text("repair")])])


def _share(cost: float | None, whole: float | None) -> float | None:
    return None if cost is None or not whole else cost / whole


def _here(run: Run | None, metric: str) -> Point | None:
    if run is None:
        return None
    left = {quantity.name: quantity.left for quantity in run.quantities}
    seen = run.agreement
    quality = {"accuracy": seen.accuracy, "agreement": seen.agreement, "same top answer": seen.agreement}.get(metric)
    if quality is None:
        return None
    return Point(
        "this run", left.get("MACs a sample"), left.get("file size"), left.get("parameters"), run.speedup, quality
    )
