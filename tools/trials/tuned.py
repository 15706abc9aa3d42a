"""Claims with the same short fine-tuning for every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from onnxmi.search import Prices
from onnxmi.study import Study
from trials.cases import Case, shapes, sizes
from trials.datasets import Samples
from trials.masks import Masker
from trials.records import Records, Row
from trials.sparsity import prunable
from trials.structured import Cut, allocated_cut, priced, uniform_cut, with_options
from trials.training import Budget, accuracy, train
from trials.twin import Twin, written_back


@dataclass(frozen=True)
class Method:
    """Zeroing while training (`learned` scores or magnitudes), or a cut before it, by a score."""

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
    "magnitude, cut": Method("magnitude"),
    "magnitude, cut and repaired": Method("magnitude", repair=True),
    "joint MI, cut": Method("joint"),
    "joint MI, cut and repaired": Method("joint", repair=True),
    "joint MI, allocated and repaired": Method("joint", repair=True, allocated=True),
}


@dataclass(frozen=True)
class Plan:
    """Steps, and the learning rates that are tried."""

    steps: int
    rates: tuple[float, ...]


PLANS: Mapping[str, Plan] = {
    "fashion-cnn": Plan(300, (1e-3, 3e-4)),
    "fashion-resnet": Plan(300, (1e-3, 3e-4)),
    "sst2-minilm": Plan(300, (1e-4, 3e-4)),
}


class Tuned:
    """The rows of one model."""

    def __init__(self, case: Case, data: Path, records: Records, plan: Plan | None = None) -> None:
        self._case, self._data, self._records = case, data, records
        self._plan = plan or PLANS[case.name]
        self._times: dict[object, dict[str, float]] = {}
        self._studies: dict[int, Study] = {}
        self._prices: dict[int, Prices] = {}
        self._starts: dict[tuple[Method, float, int], Cut] = {}
        torch.set_num_threads(1)

    def run(self, sparsities: Sequence[float], seeds: Sequence[int], methods: Sequence[str] = tuple(METHODS)) -> None:
        train_on, choose_on = self._case.training_set(self._data).split()
        for seed in seeds:
            for sparsity in sparsities:
                for method in methods:
                    for rate in self._plan.rates:
                        key = self._key(method, sparsity, seed, rate)
                        self._records.ensure(key, lambda k=key: self._row(k, train_on, choose_on))

    def _key(self, method: str, sparsity: float, seed: int, rate: float) -> Row:
        return {
            "model": self._case.name,
            "method": method,
            "sparsity": sparsity,
            "seed": seed,
            "rate": rate,
            "steps": self._plan.steps,
            "samples": self._case.samples,
        }

    def _row(self, key: Row, train_on: Samples, choose_on: Samples) -> Row:
        method, sparsity = METHODS[key["method"]], key["sparsity"]
        torch.manual_seed(key["seed"])
        start, reached = self._start(method, sparsity, key["seed"])
        twin = Twin(start)
        masker = None
        if method.score is None:
            names = [twin.places[name] for name in prunable(self._study(key["seed"]))]
            masker = Masker(twin, names, method.learned, method.whole)
        train(twin, train_on, Budget(key["steps"], key["rate"], seed=key["seed"]), masker, sparsity)
        made = written_back(start, twin)
        signature = shapes(made)
        if signature not in self._times:
            self._times[signature] = self._case.judge.latency(made)
        chosen_by = {"held": accuracy(twin, choose_on)}
        return {"reached": reached} | chosen_by | self._case.judge.quality(made) | self._times[signature] | sizes(made)

    def _start(self, method: Method, sparsity: float, seed: int) -> Cut:
        """What is trained, made once for all learning rates."""
        if (method, sparsity, seed) not in self._starts:
            self._starts = {(method, sparsity, seed): self._made(method, sparsity, seed)}
        return self._starts[method, sparsity, seed]

    def _made(self, method: Method, sparsity: float, seed: int) -> Cut:
        study = self._study(seed)
        if method.score is None:
            return study.model.proto, sparsity
        study = with_options(study, score=method.score, repair=method.repair)
        if method.allocated:
            return allocated_cut(study, sparsity, self._priced(study, seed))
        return uniform_cut(study, sparsity)

    def _priced(self, study: Study, seed: int) -> Prices:
        if seed not in self._prices:
            self._prices = {seed: priced(study)}
        return self._prices[seed]

    def _study(self, seed: int) -> Study:
        if seed not in self._studies:
            self._studies = {seed: self._case.study(seed)}
        return self._studies[seed]
