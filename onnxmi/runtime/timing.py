"""Latency: the one way in which onnxmi measures time.

Models run in turn, one run each, again and again and in a new order each time, so that whatever else the machine does
strikes all of them; after a warm-up; with the thread count pinned; loaded anew now and then. Medians are reported, and
ratios are medians of the ratios of runs of one turn. Intervals are those that order statistics give: they assume
nothing about how times are distributed, and turns in which the machine was busy move them no further than any other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
import onnx

from onnxmi.errors import UsageError
from onnxmi.model.narrow_states import narrowed_feeds
from onnxmi.runtime.deployed import require_opening
from onnxmi.runtime.session import Feeds, Session, open_session
from onnxmi.typing import Floats

Clock = Callable[[], int]

CLOCKS: Mapping[str, Clock] = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}
"""`cpu` counts the calling thread's time only: with one thread, on a noisy machine."""

CONFIDENCE = 0.95  # of every interval
SECONDS = 3.0  # of a measurement, at most, unless six turns take longer
WARM_UP = 3  # runs of each model, at most; fewer where they are long
LEAST = 6  # turns that are always made: fewer have no interval
BLOCKS = 8  # loads of the models from which their medians make an interval
RELOAD = 10  # turns after which a careful measurement loads the models anew
ENOUGH = 80  # turns before intervals are looked at: neighbors are alike, so that a few look better than they are


@dataclass(frozen=True)
class Interval:
    """Where a quantity lies, with a confidence of 95 %; an end is infinite where too few runs were made to tell."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Latency:
    """Times of one model, in ms.

    Attributes
    ----------
    times : (runs,) float64
        One measured run each, in the order of the turns.
    block : int
        Turns between two loads of the models; 1 where they were loaded once.
    """

    times: Floats
    block: int = 1

    @property
    def median(self) -> float:
        """Median, ms."""
        return float(np.median(self.times))

    @property
    def spread(self) -> float:
        """Half the interquartile range, ms."""
        low, high = np.percentile(self.times, [25, 75])
        return float(high - low) / 2

    @property
    def p95(self) -> float:
        """95th percentile, ms."""
        return float(np.percentile(self.times, 95))

    def interval(self, quantile: float = 0.5) -> Interval:
        """Where the median, or another quantile, of this model's times lies, ms."""
        return median_interval(self.times, self.block) if quantile == 0.5 else quantile_interval(self.times, quantile)

    def speedup_over(self, other: Latency) -> float:
        """Median ratio of the other model's times to this one's, turn by turn."""
        return float(np.median(other.times / self.times))

    def speedup_interval(self, other: Latency) -> Interval:
        """Where `speedup_over` lies."""
        return median_interval(other.times / self.times, self.block)


def median_interval(values: Floats, block: int = 1) -> Interval:
    """Return where a median lies, from the medians of blocks: runs of one load are alike, loads are independent.

    Parameters
    ----------
    values : (n,) float64
        One a turn.
    block : int
        Turns of one load of the models. With fewer than eight whole blocks, each turn counts for itself.
    """
    whole = len(values) // block
    if block > 1 and whole >= BLOCKS:
        values = np.median(values[: whole * block].reshape(whole, block), axis=-1)
    return quantile_interval(values, 0.5)


def quantile_interval(values: Floats, quantile: float) -> Interval:
    """Return the order statistics between which a quantile lies.

    How many of n values lie below the quantile is binomial, whatever their distribution. So the quantile lies between
    the l-th and the u-th smallest with at least the confidence asked for, if each side leaves out half of the rest.

    Parameters
    ----------
    values : (n,) float64
        Independent draws.
    quantile : float
        Between 0 and 1.
    """
    low, high = _ranks(len(values), quantile)
    ordered = np.sort(values)
    return Interval(
        float(ordered[low - 1]) if low >= 1 else -math.inf,
        float(ordered[high - 1]) if high <= len(values) else math.inf,
    )


@cache
def _ranks(total: int, quantile: float) -> tuple[int, int]:
    """Return the ranks, from 1, of an interval's ends; 0 and total + 1 are beyond the values.

    With B the number of values below the quantile, P(B < low) and P(B >= high) are each at most half of what is left.
    """
    k = np.arange(total + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])  # of factorials
    pmf = np.exp(logs[-1] - logs - logs[::-1] + k * math.log(quantile) + (total - k) * math.log1p(-quantile))
    below = np.concatenate([[0.0], np.cumsum(pmf)])  # P(B < k)
    above = np.concatenate([np.cumsum(pmf[::-1])[::-1], [0.0]])  # P(B >= k)
    rest = (1 - CONFIDENCE) / 2
    return int(np.flatnonzero(below <= rest).max()), int(np.flatnonzero(above <= rest).min())


def measure_latency(
    protos: Sequence[onnx.ModelProto],
    feeds: Feeds | Sequence[Feeds],
    *,
    threads: int = 0,
    runs: int = 30,
    seconds: float = SECONDS,
    clock: str = "wall",
    precision: float | None = None,
    reload: int | None = None,
    seed: int = 0,
) -> tuple[Latency, ...]:
    """Time any number of models, interleaved.

    Parameters
    ----------
    protos : sequence of onnx.ModelProto
        The models.
    feeds : mapping, or one mapping a model
        Inputs.
    threads : int
        Intra-operator threads; 0 lets onnxruntime choose.
    runs : int
        Measured runs of each model, at most.
    seconds : float
        Stop early once this much time has passed and six runs of each are done.
    clock : str
        A key of `CLOCKS`; `cpu` needs one thread.
    precision : float, optional
        Stop early once every interval, of the medians and of the ratios to the first model, is narrower than this
        share of its middle to both sides. What the ratios are has no part in when to stop.
    reload : int, optional
        Load the models anew after so many turns. Where weights happen to lie in memory makes one load of a model about
        1 % faster or slower than another, and without this all turns of a model share that.
    seed : int
        For the order of the models within a turn.

    Raises
    ------
    UsageError
        If the clock does not go with the number of threads.
    ModelError
        If onnxruntime refuses a model, or ends the process that opens it.
    """
    if clock == "cpu" and threads != 1:
        raise UsageError("the cpu clock counts one thread: it needs exactly one (threads=1)")
    fed = [feeds] * len(protos) if isinstance(feeds, Mapping) else list(feeds)
    require_opening(*protos)

    def load() -> list[tuple[Session, Feeds]]:
        pairs: list[tuple[Session, Feeds]] = [
            (open_session(p, threads=threads, spin=True), dict(narrowed_feeds(p, inputs)))
            for p, inputs in zip(protos, fed, strict=True)
        ]
        for session, inputs in pairs:
            _warm_up(session, inputs, seconds / len(pairs) / 10)
        return pairs

    turns = _turns(load, CLOCKS[clock], np.random.default_rng(seed), reload)
    times = [next(turns)]
    start = time.monotonic()
    for turn in turns:
        times.append(turn)
        late = time.monotonic() - start >= seconds
        if len(times) >= runs or (len(times) >= LEAST and (late or _narrow(times, precision, reload or 1))):
            break
    return tuple(Latency(np.array(column), reload or 1) for column in zip(*times, strict=True))


def _turns(
    load: Callable[[], list[tuple[Session, Feeds]]], clock: Clock, rng: np.random.Generator, reload: int | None
) -> Iterator[list[float]]:
    """Yield the times of one run of each model, made in a random order: what ran before leaves traces in the caches."""
    pairs = load()
    for number in count(1):
        turn = [0.0] * len(pairs)
        for index in rng.permutation(len(pairs)):
            session, feeds = pairs[index]
            turn[index] = _time(session, feeds, clock)
        yield turn
        if reload is not None and number % reload == 0:
            pairs = load()


def _narrow(times: list[list[float]], precision: float | None, block: int) -> bool:
    """Whether every interval is narrow enough; looked at seldom, as looking takes time from the measuring."""
    if precision is None or len(times) < ENOUGH or len(times) % 10:
        return False
    found = np.array(times)
    quantities = [*found.T, *(found[:, :1] / found[:, 1:]).T]
    return all(_half_width(values, block) <= precision for values in quantities)


def _half_width(values: Floats, block: int) -> float:
    interval = median_interval(values, block)
    return (interval.high - interval.low) / 2 / float(np.median(values))


def _warm_up(session: Session, feeds: Feeds, seconds: float) -> None:
    """Run a model a few times, only once if it is slow: the first run allocates what later ones use again."""
    start = time.monotonic()
    for _ in range(WARM_UP):
        session.run(feeds)
        if time.monotonic() - start > seconds:
            break


def _time(session: Session, feeds: Feeds, clock: Clock) -> float:
    start = clock()
    session.run(feeds)
    return (clock() - start) / 1e6
