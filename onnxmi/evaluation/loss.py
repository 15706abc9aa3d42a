"""A loss as it is reported: with its interval, the number of samples, and what they can tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from onnxmi.information.intervals import USUAL_FLIPS, resolution

Unit = Literal["points", "nats", "dB"]
Decision = Literal["within", "undecided", "beyond"]
NORMAL = 1.96  # standard errors that hold 95 % to both sides
_FACTORS = {"points": 100.0, "nats": 1.0, "dB": 1.0}


@dataclass(frozen=True)
class Loss:
    """What a cut model loses, by one metric.

    Attributes
    ----------
    value : float
        In the metric's own unit; shares and correlations as 0 to 1. Below 0 where something is gained.
    low, high : float
        Where it lies for samples like these, with a confidence of 95 %. Infinite where that is not known.
    n : int
        Number of samples.
    flips_lost, flips_gained : int or None
        Answers that were right and are wrong, and the other way round. Without labels, what the original answers is
        right. None where nothing is counted.
    metric : str
        Its name.
    unit : str
        points for what is shown in hundredths, nats or dB.
    """

    value: float
    low: float
    high: float
    n: int
    flips_lost: int | None
    flips_gained: int | None
    metric: str
    unit: Unit = "points"

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def error(self) -> float | None:
        """Standard error; None where there is no interval."""
        return (self.high - self.low) / (2 * NORMAL) if self.known else None

    @property
    def text(self) -> str:
        """For people: `0.4 points lost [-0.9, 1.7] on 238 samples (3 answers lost, 2 gained)`."""
        digits = 1 if self.unit == "points" else 4
        value, low, high = (
            f"{end * _FACTORS[self.unit] + 0.0:.{digits}f}" if math.isfinite(end) else "?"
            for end in (self.value, self.low, self.high)
        )
        span = f" [{low}, {high}]" if self.known else ""
        samples = f"{self.n:,} sample{'' if self.n == 1 else 's'}"
        return f"{value} {self.unit} lost{span} on {samples}{self._flips()}"

    def _flips(self) -> str:
        if self.flips_lost is None:
            return ""
        noun = "answer" if self.flips_lost == 1 else "answers"
        if self.flips_gained is None:  # without labels, nobody knows which of the two is right
            return f" ({self.flips_lost:,} {noun} changed)"
        return f" ({self.flips_lost:,} {noun} lost, {self.flips_gained:,} gained)"

    def against(self, margin: float) -> Decision:
        """Say whether the samples show that no more than `margin` is lost, that more is, or neither."""
        if math.isnan(self.value):
            return "beyond"
        # Without an interval the figure itself has to decide.
        if not self.known:
            return "within" if self.value <= margin else "beyond"
        if self.low > margin:
            return "beyond"
        return "within" if self.high <= margin else "undecided"

    def doubt(self, margin: float) -> str:
        """Say what the samples cannot tell; nothing where they can."""
        if self.against(margin) != "undecided":
            return ""
        flips = (self.flips_lost or 0) + (self.flips_gained or 0)
        # At least as many flips as a loss of about a point usually brings: few samples may happen to show none.
        told = resolution(self.n, max(flips / self.n, USUAL_FLIPS)) if self.unit == "points" else 0.0
        least = f"; they resolve about {100 * told:.1f}" if told > margin else ""
        return f"undecided: {self.n:,} samples cannot tell {_points(margin, self.unit)}{least}"


def _points(margin: float, unit: Unit) -> str:
    amount = margin * _FACTORS[unit]
    noun = unit.removesuffix("s") if math.isclose(amount, 1) and unit == "points" else unit
    return f"{amount:.4g} {noun}"
