"""Who times models: this process, or a worker on the machine that they are for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, Unpack

import onnx

from onnxmi.runtime.environment import processor_identity
from onnxmi.runtime.session import Feeds, version
from onnxmi.runtime.timing import Latency, measure_latency


@dataclass(frozen=True)
class Machine:
    """What times depend on.

    Attributes
    ----------
    processor : str
        What tells it apart, see `onnxmi.runtime.environment.processor_identity`.
    count : int or None
        How many there are.
    onnxruntime : str
        Its version.
    """

    processor: str
    count: int | None
    onnxruntime: str

    @staticmethod
    def here() -> Machine:
        """Return the one that this process runs on."""
        return Machine(processor_identity(), os.cpu_count(), version())

    @property
    def name(self) -> str:
        """The processor's name, for people."""
        named = (line for line in self.processor.splitlines() if line.startswith("model name"))
        return next(named, ":unknown processor").partition(":")[2].strip()


class TimingOptions(TypedDict, total=False):
    """The options of `onnxmi.runtime.timing.measure_latency`."""

    threads: int
    runs: int
    seconds: float
    clock: str
    precision: float | None
    reload: int | None


class Stopwatch(Protocol):
    """Times models on some machine."""

    @property
    def machine(self) -> Machine:
        """That machine."""

    @property
    def note(self) -> str:
        """Where times are measured, if not here; "" here."""

    def measure(
        self, protos: Sequence[onnx.ModelProto], feeds: Feeds, **options: Unpack[TimingOptions]
    ) -> tuple[Latency, ...]:
        """Time models there as `onnxmi.runtime.timing.measure_latency` does here."""


class OwnStopwatch:
    """Times models in this process."""

    note = ""

    @property
    def machine(self) -> Machine:
        """The one that this process runs on."""
        return Machine.here()

    def measure(
        self, protos: Sequence[onnx.ModelProto], feeds: Feeds, **options: Unpack[TimingOptions]
    ) -> tuple[Latency, ...]:
        """Time models in turn."""
        return measure_latency(protos, feeds, **options)


OWN = OwnStopwatch()
