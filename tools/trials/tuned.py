"""Claims with the same short fine-tuning for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from onnxmi.pruning.session import PruningSession
from trials.cases import Case, sizes
from trials.datasets import Samples
from trials.masks import Kept, Masker
from trials.records import Records, Row
from trials.sparsity import shares_at
from trials.stepwise import repaired_zeros
from trials.structured import Cut, Priced, allocated_cut, uniform_cut, with_options
from trials.training import Budget, accuracy, train
from trials.twin import Twin, written_back
from trials.zeroing import share_of_zeros, with_values


@dataclass(frozen=True)
class Method:
    """Zeroing while training, by magnitudes or `learned` scores, or before it, with repair; or a cut, by a score."""

    score: str | None = None
    repair: bool = False
    learned: bool = False
    whole: bool = False
    allocated: bool = False


METHODS: Mapping[str, Method] = {
    "magnitude, zeroed": Method(),
    "magnitude, zeroed over the whole model": Method(whole=True),
    "movement, zeroed": Method(learned=True),
    "movement, zeroed over the whole model": Method(learned=True, whole=True),
    "zeroed and repaired": Method(repair=True),
    "magnitude, cut": Method("magnitude"),
    "magnitude, cut and repaired": Method("magnitude", repair=True),
    "magnitude, allocated and repaired": Method("magnitude", repair=True, allocated=True),
    "joint MI, cut": Method("joint"),
    "joint MI, cut and repaired": Method("joint", repair=True),
    "joint MI, allocated and repaired": Method("joint", repair=True, allocated=True),
}


LADDER = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # of learning rates
BEGIN: Mapping[str, tuple[float, ...]] = {  # rates that the search for the best begins with
    "fashion-cnn": (1e-3, 3e-4),
    "fashion-resnet": (1e-3, 3e-4),
    "sst2-minilm": (1e-4, 3e-4),
}
STEPS = 300


def best_rate(begin: Sequence[float], held_at: Callable[[float], float]) -> float:
    """Go up or down the ladder from where to begin until the best rate has a worse one on both sides."""
    held: dict[float, float] = {}
    waiting = list(begin)
    while waiting:
        held |= {rate: held_at(rate) for rate in waiting}
        best = LADDER.index(max(held, key=lambda rate: held[rate]))
        waiting = [rate for rate in LADDER[max(best - 1, 0) : best + 2] if rate not in held]
    return LADDER[best]


class Tuned:
    """The rows of one model."""

    def __init__(
        self,
        case: Case,
        data: Path,
        records: Records,
        steps: int | None = None,
        rates: Sequence[float] = (),
    ) -> None:
        self._case, self._data, self._records = case, data, records
        self._steps, self._rates = steps or STEPS, rates
        self._studies: dict[int, PruningSession] = {}
        self._problem = Priced()
        self._starts: dict[tuple[Method, float, int], Cut] = {}
        torch.set_num_threads(1)

    def run(self, sparsities: Sequence[float], seeds: Sequence[int], methods: Sequence[str] = tuple(METHODS)) -> None:
        """Search for the learning rate with the first seed, and take it with the others."""
        parts = self._case.training_set(self._data).split()
        for sparsity in sparsities:
            for method in methods:
                ensured = partial(self._ensured, parts, method, sparsity)
                begin = BEGIN[self._case.name]
                rates = self._rates or [best_rate(begin, lambda rate, make=ensured: make(seeds[0], rate)["held"])]
                for seed in seeds:
                    for rate in rates:
                        ensured(seed, rate)

    def _ensured(
        self, parts: tuple[Samples, Samples], method: str, sparsity: float, seed: int, rate: float
    ) -> Mapping[str, Any]:
        key = self._key(method, sparsity, seed, rate)
        return self._records.ensure(key, lambda: self._row(key, *parts))

    def _key(self, method: str, sparsity: float, seed: int, rate: float) -> Row:
        return {
            "model": self._case.name,
            "method": method,
            "sparsity": sparsity,
            "seed": seed,
            "rate": rate,
            "steps": self._steps,
            "samples": self._case.samples,
        }

    def _row(self, key: Row, train_on: Samples, choose_on: Samples) -> Row:
        method, sparsity = METHODS[key["method"]], key["sparsity"]
        torch.manual_seed(key["seed"])
        start, reached = self._start(method, sparsity, key["seed"])
        twin = Twin(start)
        masker = self._masker(twin, method, sparsity, key["seed"])
        train(twin, train_on, Budget(key["steps"], key["rate"], seed=key["seed"]), masker)
        made = written_back(start, twin)
        if masker is not None:
            reached = share_of_zeros(self._session(key["seed"]), made)
        chosen_by = {"held": accuracy(twin, choose_on)}
        return {"reached": reached} | chosen_by | self._case.judge.quality(made) | sizes(made)

    def _masker(self, twin: Twin, method: Method, sparsity: float, seed: int) -> Masker | Kept | None:
        session = self._session(seed)
        if method.score is not None:
            return None
        shares = shares_at(session, sparsity)
        if method.repair:
            return Kept(twin, [twin.places[name] for name in shares])
        return Masker(twin, {twin.places[n]: share for n, share in shares.items()}, method.learned, method.whole)

    def _start(self, method: Method, sparsity: float, seed: int) -> Cut:
        """What is trained, made once for all learning rates."""
        if (method, sparsity, seed) not in self._starts:
            self._starts = {(method, sparsity, seed): self._made(method, sparsity, seed)}
        return self._starts[method, sparsity, seed]

    def _made(self, method: Method, sparsity: float, seed: int) -> Cut:
        session = self._session(seed)
        if method.score is None:
            values = repaired_zeros(session, sparsity) if method.repair else {}
            return with_values(session.model.proto, values), sparsity
        session = with_options(session, score=method.score, repair=method.repair)
        if method.allocated:
            return allocated_cut(session, sparsity, self._problem.of(session))
        return uniform_cut(session, sparsity)

    def _session(self, seed: int) -> PruningSession:
        if seed not in self._studies:
            self._studies[seed] = self._case.session(seed)
        return self._studies[seed]


def make_tuned(
    folder: Path,
    name: str,
    samples: int | None,
    data: Path,
    steps: int | None,
    rates: Sequence[float],
    seeds: Sequence[int],
    sparsities: Sequence[float],
    methods: Sequence[str],
    records: Records,
) -> None:
    """Make the rows of one model, some sparsities and some methods."""
    Tuned(Case(folder, name, samples), data, records, steps, tuple(rates)).run(sparsities, seeds, methods)
