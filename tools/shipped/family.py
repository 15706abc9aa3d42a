"""What a kind of model needs to be benchmarked: how its inputs are made, and how two of them are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]  # by the model's input, samples on the first axis
Groups = Mapping[str, Arrays]  # inputs of one shape each
Figures = dict[str, float]

PARTS = ("calibration", "fresh")


@dataclass(frozen=True)
class Request:
    """Which inputs to make: `part` is that of `PARTS`, and the two never share a sample."""

    model: Path
    part: str
    seed: int = 0

    @property
    def number(self) -> int:
        return PARTS.index(self.part)

    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(self.model.name.encode()), self.number])

    def deal(self, items: list[Any]) -> list[Any]:
        """The part's own half of what texts and files are taken from."""
        return items[self.number :: len(PARTS)]


class Model(Protocol):
    """A loaded model."""

    def run(self, feeds: Arrays) -> list[Array]: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Family:
    """One kind of model.

    `calibrate` makes the arrays of a calibration file, `fresh` what to judge on, and `judge` compares the original with
    the pruned model there. `timed` picks what a timed run is fed; `headline` names the figures of the table.
    """

    calibrate: Callable[[Request], Arrays]
    fresh: Callable[[Request], Groups]
    judge: Callable[[Model, Model, Groups], Figures]
    timed: Callable[[Model, Groups], Arrays]
    headline: tuple[str, ...]


def first_sample(model: Model, groups: Groups) -> Arrays:
    """One sample of the first group, as it comes."""
    arrays = next(iter(groups.values()))
    return {name: arrays[name][:1] for name in model.inputs}
