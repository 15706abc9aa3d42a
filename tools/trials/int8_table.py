"""What files of one model are worth and how fast they are, all timed in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxmi.model.external_data import byte_size
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.timing import RELOAD, Latency, measure_latency
from trials.cases import TURNS, Case, without_padding
from trials.int8_rows import Made


@dataclass(frozen=True)
class Measured:
    """A line of the table: bytes, quality on the evaluation file, and times as fast as the first for each batch."""

    label: str
    size: int
    accuracy: float
    agreement: float
    damage: float
    speedups: tuple[float, ...]


def measured(case: Case, rows: Sequence[Made], batches: Sequence[int], seconds: float) -> Iterator[Measured]:
    times = [timed(case, [row.proto for row in rows], batch, seconds) for batch in batches]
    for number, row in enumerate(rows):
        quality = case.judge.quality(row.proto)
        speedups = tuple(latencies[number].speedup_over(latencies[0]) for latencies in times)
        error = quality["error"]
        yield Measured(
            row.label, byte_size(row.proto), quality["accuracy"], quality["agreement"], error * error, speedups
        )


def timed(case: Case, protos: Sequence[onnx.ModelProto], batch: int, seconds: float) -> Sequence[Latency]:
    limits = {"seconds": seconds, "runs": TURNS, "precision": 0.01, "reload": RELOAD}
    return measure_latency(protos, _feeds(case, batch), threads=1, clock="cpu", **limits)  # type: ignore[arg-type]


def _feeds(case: Case, batch: int) -> Feeds:
    """A batch of samples of median length, without the padding that none of them needs."""
    judge = case.judge
    if batch == 1:
        return judge.one()
    middle = len(judge.order) // 2
    chosen = np.resize(judge.order[middle : middle + batch], batch)
    return judge.data.feed(chosen) if judge.data.padding is None else without_padding(judge.data, chosen)


def rule(batches: Sequence[int]) -> str:
    first, *others = batches
    heads = ["model", "file", "accuracy", "agreement", "damage", f"batch {first}, times as fast"]
    heads += [f"batch {batch}" for batch in others]
    return f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}"


def shown(one: Measured) -> str:
    size = f"{one.size / 1e6:.2f} MB"
    cells = [one.label, size, f"{one.accuracy:.3f}", f"{one.agreement:.3f}", f"{one.damage:.1%}"]
    return f"| {' | '.join([*cells, *(f'{speedup:.2f}' for speedup in one.speedups)])} |"
