"""Claims without training: every score, zeroing or cutting, with and without repair, at equal sparsity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import onnx

from onnxmi.cost import parameters
from onnxmi.model import Graph
from onnxmi.scoring import UNMEASURED
from onnxmi.search import meet, price
from onnxmi.study import Study, carry_out, choose
from trials.cases import Case, shapes, sizes
from trials.records import Records, Row
from trials.sparsity import prunable, sparsity_of, uniform_at
from trials.zeroing import ZEROINGS, zeroed

STRUCTURED = (
    ("joint", "gaussian"),
    ("pairwise", "gaussian"),
    ("pairwise", "binned"),
    ("magnitude", "gaussian"),
    ("wanda", "gaussian"),
    ("variance", "gaussian"),
    ("random", "gaussian"),
)
SEEDLESS = UNMEASURED - {"random"}  # without repair, such a score gives the same model with any seed


class Free:
    """The rows of one model."""

    def __init__(self, case: Case, records: Records) -> None:
        self._case, self._records = case, records
        self._studies: dict[tuple[int, str], Study] = {}
        self._times: dict[object, dict[str, float]] = {}

    def run(self, sparsities: Sequence[float], seeds: Sequence[int], only: Sequence[str] = ()) -> None:
        for seed in seeds:
            for sparsity in sparsities:
                for method, repair in _methods(seed):
                    if only and method not in only:
                        continue
                    key = self._key(method, repair, sparsity, seed)
                    self._records.ensure(key, lambda k=key: self._row(k))  # type: ignore[misc]

    def _key(self, method: str, repair: bool, sparsity: float, seed: int) -> Row:
        return {
            "model": self._case.name,
            "method": method,
            "repair": repair,
            "sparsity": sparsity,
            "seed": seed,
            "samples": self._case.samples,
        }

    def _row(self, key: Row) -> Row:
        method, sparsity = key["method"], key["sparsity"]
        if method in ZEROINGS:
            study = self._study(key["seed"], "gaussian")
            proto = zeroed(study.model.proto, ZEROINGS[method](study, sparsity))
            return self._judged(proto, sparsity)
        if method == "joint, allocated":
            return self._allocated(key)
        score, _, estimator = method.partition("/")
        study = self._study(key["seed"], estimator or "gaussian")
        options = replace(study.options, score=score, estimator=estimator or "gaussian", repair=key["repair"])
        study = replace(study, options=options)
        counts = uniform_at(study, sparsity)
        return self._judged(carry_out(study, choose(study, counts)).proto, sparsity_of(study, counts))

    def _allocated(self, key: Row) -> Row:
        """Uneven sizes at the number of parameters that the uniform cut leaves."""
        study = self._study(key["seed"], "gaussian")
        counts = uniform_at(study, key["sparsity"])
        same = choose(replace(study, options=replace(study.options, score="magnitude")), counts)
        left = carry_out(replace(study, options=replace(study.options, repair=False)), same).proto
        share = parameters(Graph(left)) / parameters(study.model.graph)
        options = replace(study.options, keep=None, params=share, repair=key["repair"])
        study = replace(study, options=options)
        found = meet(study, price(study, {"params"})).candidate
        kept = {c.layer: c.count for c in found.plan.choices}
        counts = {layer.id: kept.get(layer.name, layer.size) for layer in study.layers}
        return self._judged(found.proto, sparsity_of(study, counts))

    def _study(self, seed: int, estimator: str) -> Study:
        """One capture a seed; a second one for the histograms, which would slow the others down."""
        if (seed, estimator) not in self._studies:
            self._studies = {k: v for k, v in self._studies.items() if k[0] == seed}
            score = "pairwise" if estimator == "binned" else "joint"
            self._studies[seed, estimator] = self._case.study(seed, score=score, estimator=estimator)
        return self._studies[seed, estimator]

    def _judged(self, proto: onnx.ModelProto, sparsity: float) -> Row:
        judge, signature = self._case.judge, shapes(proto)
        if signature not in self._times:  # zeros or which channels stay make no difference to the time
            self._times[signature] = judge.latency(proto)
        return {"reached": sparsity} | judge.quality(proto) | self._times[signature] | sizes(proto)


def _methods(seed: int) -> Iterator[tuple[str, bool]]:
    """(method, repair), the dearest ones last."""
    for repair in (True, False):
        for score, estimator in STRUCTURED:
            if repair or score not in SEEDLESS or seed == 0:
                yield (score if estimator == "gaussian" else f"{score}/{estimator}"), repair
    for method in ZEROINGS:
        if seed == 0 or method.startswith("wanda"):
            yield method, False
    yield "joint, allocated", True


def prunable_share(study: Study) -> float:
    """Share of the model's parameters that lie in prunable matrices."""
    graph = study.model.graph
    return sum(graph.constant(name).size for name in prunable(study)) / parameters(graph)
