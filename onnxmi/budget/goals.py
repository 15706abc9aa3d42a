"""Budgets: what the user asks of the result, in his own units, and whether it was reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from onnxmi.budget.units import BYTES, FACTOR, MILLISECONDS, POINTS, SHARE, Unit
from onnxmi.errors import UsageError
from onnxmi.evaluation.judgement import Judgement

Kind = Literal["size", "params", "macs", "time"]

DEFAULT_DROP = 0.01  # absolute points of the metric, where no budget is given
TOLERANCE = 0.02  # of a measured time: what is asked for counts as reached this close to it


@dataclass(frozen=True)
class Budget:
    """What is asked for; None where nothing is.

    Attributes
    ----------
    keep : float
        Share of every layer's units that stays, the same for all layers.
    max_size : int
        Bytes of the file with its external data.
    params, macs : float
        Share of the original's parameters and multiply-accumulates that stays, at most.
    speedup : float
        Times as fast as the original, at least.
    max_latency : float
        Milliseconds a run, at most.
    max_drop : float
        Absolute points of the metric that may be lost on the samples held back, at most.
    """

    keep: float | None = None
    max_size: int | None = None
    params: float | None = None
    macs: float | None = None
    speedup: float | None = None
    max_latency: float | None = None
    max_drop: float | None = None

    @property
    def asked(self) -> Mapping[str, float]:
        """What is asked for, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of what is asked of costs, all of which have to hold together."""
        return tuple(name for name in self.asked if name in COSTS)

    @property
    def searches(self) -> bool:
        """Whether the smallest model within a loss is wanted: a loss alone is asked for, or nothing is."""
        return not self.costs and self.keep is None

    @property
    def drop(self) -> float | None:
        """Points that may be lost, if any limit was set or none at all."""
        return DEFAULT_DROP if not self.asked else self.max_drop

    def check(self) -> None:
        """Raise UsageError where a budget is out of range, or one does not go with another."""
        for name, value in self.asked.items():
            low, high, expected = _RANGES[name]
            if not low < value <= high:
                raise UsageError(f"{option(name)} {value:g} is out of range: expected {expected}")
        if self.keep is not None and self.costs:
            raise UsageError(
                f"--keep cuts every layer alike, whatever it costs: it cannot be combined with {option(self.costs[0])}"
            )


_SHARE = "a share above 0 and at most 1"
_INFINITE = float("inf")

# Name -> what it has to be above, and at most, and how to say so.
_RANGES: Mapping[str, tuple[float, float, str]] = {
    "keep": (0.0, 1.0, _SHARE),
    "max_size": (0, _INFINITE, "a size such as 10MB"),
    "params": (0.0, 1.0, _SHARE),
    "macs": (0.0, 1.0, _SHARE),
    "speedup": (1.0, _INFINITE, "a factor above 1, such as 2.0"),
    "max_latency": (0.0, _INFINITE, "a time above 0, such as 5ms"),
    "max_drop": (0.0, 1.0, "points above 0 and at most 1, such as 0.01"),
}

COSTS: Mapping[str, Kind] = {
    "max_size": "size",
    "params": "params",
    "macs": "macs",
    "speedup": "time",
    "max_latency": "time",
}
"""What is asked for -> the cost that it limits."""


UNITS: Mapping[str, Unit] = {
    "max_size": BYTES,
    "params": SHARE,
    "macs": SHARE,
    "speedup": FACTOR,
    "max_latency": MILLISECONDS,
    "max_drop": POINTS,
}
"""What is asked for -> its unit."""


def option(name: str) -> str:
    """Spell a budget as on the command line."""
    return "--latency" if name == "max_latency" else f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Goal:
    """One thing that was asked for, and what was reached.

    Attributes
    ----------
    name : str
        A field of `Budget`.
    asked, reached : float
        In its unit.
    met : bool
        Whether that is enough; a measured time within `TOLERANCE` is, and a loss that samples do not show to be more.
    undecided : bool
        Whether the samples cannot tell.
    """

    name: str
    asked: float
    reached: float
    met: bool
    undecided: bool = False

    @staticmethod
    def of(name: str, asked: float, reached: float) -> Goal:
        """Judge what was reached."""
        # A time is measured with noise; what is counted is exact.
        slack = TOLERANCE if COSTS.get(name) == "time" else 0.0
        met = reached >= asked * (1 - slack) if name == "speedup" else reached <= asked * (1 + slack)
        return Goal(name, asked, reached, met)

    @staticmethod
    def of_loss(judgement: Judgement, asked: float) -> Goal:
        """Hold a loss against what is allowed: it is missed where the whole interval lies beyond."""
        decision = judgement.decisive.loss.against(asked)
        return Goal("max_drop", asked, judgement.drop, decision != "beyond", decision == "undecided")

    @property
    def verdict(self) -> str:
        """Return `met`, `within noise` (short of it by no more than a time varies), `undecided` or `missed`."""
        if self.undecided or not self.met:
            return "undecided" if self.undecided else "missed"
        unit = UNITS.get(self.name)
        alike = unit is None or unit.show(self.asked) == unit.show(self.reached)
        timed = COSTS.get(self.name) == "time"
        return "within noise" if timed and self.violation > 1 and not alike else "met"

    @property
    def asked_text(self) -> str:
        """Return what was asked for, as it would be typed: `--max-size 60MB`."""
        return f"{option(self.name)} {UNITS[self.name].typed(self.asked)}"

    @property
    def reached_text(self) -> str:
        """Return what was reached, in the same unit: `59.87 MB`."""
        unit = UNITS[self.name]
        return unit.typed(self.reached) if unit in (SHARE, POINTS) else unit.show(self.reached)

    @property
    def violation(self) -> float:
        """How far what was reached is from what was asked, as a factor of cost: above 1 where it is not met."""
        # A speed-up falls as cost grows, so its ratio is turned over.
        return self.asked / self.reached if self.name == "speedup" else self.reached / self.asked


@dataclass(frozen=True)
class Trial:
    """One model that was tried on the way.

    Attributes
    ----------
    share : float
        Of the original's cost, that was aimed at.
    drop : float
        Points of the metric lost on the samples held back.
    error : float or None
        Standard error of the drop.
    repair : str
        "few samples", where it is made on some of them, or "step by step" on all.
    fits : bool
        Whether that is no more than may be lost.
    damage : float
        Of the output that lost most; 1 is as bad as a constant.
    output : str
        Which that is.
    kind : str
        The cost that was aimed at: time, macs or params.
    expected : float
        Points that are lost in all likelihood: what the count, the margins and the damage say together.
    """

    share: float
    drop: float
    error: float | None
    repair: str
    fits: bool
    damage: float = 0.0
    output: str = ""
    kind: str = ""
    expected: float = 0.0
