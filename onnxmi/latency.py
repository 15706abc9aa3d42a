"""Latency: the one way in which onnxmi measures time.

Models run in turn, one run each, again and again, so that whatever else the machine does strikes all of them; after a
warm-up; with the thread count pinned. Medians are reported, and ratios are medians of the ratios of runs that stood
next to each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxmi.runtime import Feeds, Session, open_session

Clock = Callable[[], int]

CLOCKS: Mapping[str, Clock] = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}
"""`cpu` counts the calling thread's time only: use it with one thread on a noisy machine."""


@dataclass(frozen=True, eq=False)
class Latency:
    """Times of one model, in ms.

    Attributes
    ----------
    times : (runs,) float64
        One measured run each, in the order they were made.
    """

    times: NDArray[np.float64]

    @property
    def median(self) -> float:
        """Median, ms."""
        return float(np.median(self.times))

    @property
    def spread(self) -> float:
        """Half the interquartile range, ms."""
        low, high = np.percentile(self.times, [25, 75])
        return float(high - low) / 2

    def speedup_over(self, other: Latency) -> float:
        """Median ratio of the other model's times to this one's, run by run."""
        return float(np.median(other.times / self.times))


def measure(
    protos: Sequence[onnx.ModelProto],
    feeds: Feeds,
    *,
    threads: int = 0,
    runs: int = 30,
    seconds: float = 3.0,
    clock: str = "wall",
) -> tuple[Latency, ...]:
    """Time models on the same inputs, interleaved.

    Parameters
    ----------
    protos : sequence of onnx.ModelProto
        The models.
    feeds : mapping
        Inputs, the same for all.
    threads : int
        Intra-operator threads; 0 lets onnxruntime choose.
    runs : int
        Measured runs of each model, at most.
    seconds : float
        Stop early once this much time has passed and five runs of each are done.
    clock : str
        A key of `CLOCKS`.
    """
    sessions = [open_session(proto, threads=threads, spin=True) for proto in protos]
    for session in sessions:
        _time(session, feeds, CLOCKS[clock])
    times: list[list[float]] = []
    start = time.monotonic()
    while len(times) < runs and (len(times) < 5 or time.monotonic() - start < seconds):
        times.append([_time(session, feeds, CLOCKS[clock]) for session in sessions])
    return tuple(Latency(np.array(column)) for column in zip(*times, strict=True))


def _time(session: Session, feeds: Feeds, clock: Clock) -> float:
    start = clock()
    session.run(feeds)
    return (clock() - start) / 1e6
