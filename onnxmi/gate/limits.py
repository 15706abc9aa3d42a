"""What a model must not exceed: limits, and the rule by which they are judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnxmi.budget.units import BYTES, COUNT, FACTOR, MILLISECONDS, POINTS, SHARE, Unit
from onnxmi.runtime.timing import Interval

RULE = (
    "Sizes, work and memory are compared as they are measured. A time, a speed-up or a drop fails when its whole 95 % "
    "interval lies beyond the limit, passes when it lies within, and is undecided in between: that is a warning, and "
    "with --strict a failure."
)
"""The rule, in words."""


@dataclass(frozen=True)
class Limit:
    """Something that a model may be asked to keep to.

    Attributes
    ----------
    help : str
        What it bounds.
    unit : Unit
        Its unit.
    least : bool
        Whether the bound is the least that is allowed, not the most.
    noisy : bool
        Whether it is measured with noise, and so judged by its interval.
    needs : tuple of str
        The options it cannot do without.
    """

    help: str
    unit: Unit
    least: bool = False
    noisy: bool = False
    needs: tuple[str, ...] = ()


LIMITS: Mapping[str, Limit] = {
    "max-size": Limit("Bytes of the file with its external data", BYTES),
    "max-size-ratio": Limit("Its size over the baseline's", SHARE, needs=("baseline",)),
    "max-macs": Limit("Multiply-accumulates for one sample", COUNT),
    "max-memory": Limit("What loading and running adds to a process, at its peak", BYTES),
    "max-latency": Limit("Median time of a run", MILLISECONDS, noisy=True),
    "max-p95": Limit("95th percentile of the time of a run", MILLISECONDS, noisy=True),
    "min-speedup": Limit(
        "How many times faster than the baseline", FACTOR, least=True, noisy=True, needs=("baseline",)
    ),
    "max-drop": Limit(
        "Loss against the baseline, in points of the metric", POINTS, noisy=True, needs=("baseline", "data")
    ),
}


@dataclass(frozen=True)
class Measured:
    """A measured quantity.

    Attributes
    ----------
    value : float
        Its value.
    interval : Interval or None
        Where it lies, with a confidence of 95 %.
    remark : str
        What else there is to say about it.
    doubt : str
        What to say where the interval does not decide; of the gate's own words by default.
    """

    value: float
    interval: Interval | None = None
    remark: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class Verdict:
    """One check.

    Attributes
    ----------
    name : str
        A key of `LIMITS`, or what else was checked.
    passed : bool
        The verdict.
    asked, measured : str
        For people.
    detail : str
        Why it failed, or what limits the verdict; may be empty.
    limit, value : float or None
        The same as numbers; None where there is none.
    interval : Interval or None
        Where the value lies.
    undecided : bool
        Passed, but the noise is as large as the distance to the limit.
    """

    name: str
    passed: bool
    asked: str
    measured: str
    detail: str = ""
    limit: float | None = None
    value: float | None = None
    interval: Interval | None = None
    undecided: bool = False


def judge(name: str, bound: float, measured: Measured, *, strict: bool = False) -> Verdict:
    """Compare a measured quantity with its limit, by `RULE`.

    Parameters
    ----------
    name : str
        A key of `LIMITS`.
    bound : float
        The limit.
    measured : Measured
        What is NaN fails.
    strict : bool
        Pass only where the whole interval is within the limit.
    """
    limit = LIMITS[name]
    best, worst = _ends(measured, limit)
    certain = _within(worst, bound, limit)
    possible = _within(best, bound, limit)
    decided = _within(measured.value, bound, limit)
    if strict and measured.interval is not None:
        passed = certain
    else:
        passed = possible and not math.isnan(measured.value) if limit.noisy else decided
    doubt = _doubt(passed=passed, decided=decided, certain=certain, possible=possible) if limit.noisy or strict else ""
    doubt = (measured.doubt or doubt) if doubt else ""
    show = limit.unit.show
    interval = measured.interval
    shown = show(measured.value) + ("" if interval is None else f" {_span(interval, limit.unit)}")
    return Verdict(
        name=name,
        passed=passed,
        asked=f"{'at least' if limit.least else 'at most'} {show(bound)}",
        measured=shown,
        detail="; ".join(filter(None, [doubt, measured.remark])),
        limit=bound,
        value=measured.value,
        interval=interval,
        undecided=passed and limit.noisy and interval is not None and not certain,
    )


def _ends(measured: Measured, limit: Limit) -> tuple[float, float]:
    """Return the ends of the interval, the better first; where too few runs were made for one, the value itself."""
    if measured.interval is None:
        return measured.value, measured.value
    low, high = measured.interval.low, measured.interval.high
    best, worst = (high, low) if limit.least else (low, high)
    return (best if math.isfinite(best) else measured.value), worst


def _within(value: float, bound: float, limit: Limit) -> bool:
    return value >= bound if limit.least else value <= bound


def _span(interval: Interval, unit: Unit) -> str:
    ends = (f"{end:.{unit.decimals}f}" if math.isfinite(end) else "?" for end in (interval.low, interval.high))
    return f"[{', '.join(ends)}]"


def _doubt(*, passed: bool, decided: bool, certain: bool, possible: bool) -> str:
    """Say where the noise is as large as the distance to the limit."""
    if certain or not possible:
        return ""
    if passed:
        return "not certain: the interval reaches beyond the limit" if decided else "beyond, but within the noise"
    return "within, but not certain" if decided else ""
