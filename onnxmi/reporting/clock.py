"""A clock for a whole run: which stage of how many, how much of it is done, and about how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import floor

from onnxmi.pruning.stages import Stage, stage_named

SURE = 0.1  # share of the run from which on the time left is told
LEAST = 10.0  # seconds of a run before the time left is told


class Clock:
    """What the reports of a run's stages say of the time.

    Parameters
    ----------
    stages : sequence of Stage
        Those that are expected, in order. A stage that comes unexpectedly takes its place after the ones so far.
    now : callable
        Returns seconds.

    Notes
    -----
    The rest of a stage is told from its own rate, and the stages after it from what the earlier ones took beside their
    weights. So the time left is right where weights are, and gets better as stages end.
    """

    def __init__(self, stages: Sequence[Stage], now: Callable[[], float] = time.monotonic) -> None:
        self._stages, self._now = list(stages), now
        self._start = now()
        self._at = -1  # no stage yet
        self._begun = self._start
        self._done, self._total = 0.0, 1.0

    def advance(self, name: str, done: float, total: float) -> bool:
        """Take in a report of the pipeline; return whether a stage has begun."""
        begins = self._at < 0 or self._stages[self._at].name != name
        if begins:
            self._begin(name)
        self._done, self._total = done, max(total, 1)
        return begins

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._now() - self._start

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1, by the weights of the stages."""
        whole = sum(stage.weight for stage in self._stages)
        return self._weight_done() / whole if whole else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes, about; None as long as nobody can tell."""
        if self.share < SURE or self.elapsed < LEAST:
            return None
        done = self._done / self._total
        stage = (self._now() - self._begun) * (1 - done) / done if done else self._stages[self._at].weight * self._rate
        return stage + self._rate * sum(stage.weight for stage in self._stages[self._at + 1 :])

    @property
    def line(self) -> str:
        """One line on where the run is, in words."""
        if self._at < 0:
            return "reading the model and the samples"
        where = f"stage {self._at + 1} of {len(self._stages)}, {self._stages[self._at].words}"
        return f"{where}: {floor(self._done)} of {floor(self._total)}"

    @property
    def rest(self) -> str:
        """About how long the rest takes, in words; empty as long as nobody can tell."""
        return "" if self.left is None else f"about {duration(self.left)} left"

    def _begin(self, name: str) -> None:
        names = [stage.name for stage in self._stages]
        if name in names[self._at + 1 :]:
            self._at = names.index(name, self._at + 1)
        else:
            self._at += 1
            self._stages.insert(self._at, stage_named(name))
        self._begun = self._now()

    @property
    def _rate(self) -> float:
        """Seconds a unit of weight, by what is done."""
        return self.elapsed / max(self._weight_done(), 1e-9)

    def _weight_done(self) -> float:
        if self._at < 0:
            return 0.0
        ended = sum(stage.weight for stage in self._stages[: self._at])
        return ended + self._stages[self._at].weight * self._done / self._total


def duration(seconds: float) -> str:
    """Say a time as people do: 40 s, 3 min, 1 h 20 min."""
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
