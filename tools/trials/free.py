"""Claims without training: every score, zeroing or cutting, with and without repair, at equal sparsity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import onnx
from numpy.typing import NDArray

from onnxmi.pruning.session import PruningSession
from trials.cases import Case, sizes
from trials.records import Records, Row
from trials.refit import sparsegpt
from trials.structured import Priced, allocated_cut, uniform_cut, with_options
from trials.zeroing import ZEROINGS, share_of_zeros, with_values, zeroed

STRUCTURED = (
    ("joint", "gaussian"),
    ("pairwise", "gaussian"),
    ("pairwise", "binned"),
    ("magnitude", "gaussian"),
    ("wanda", "gaussian"),
    ("variance", "gaussian"),
    ("random", "gaussian"),
)
STEPWISE = "zeroed, repaired step by step"
ALLOCATED = {f"{score}, allocated": score for score in ("joint", "magnitude")}


def _stepwise(session: PruningSession, sparsity: float) -> Mapping[str, NDArray[Any]]:
    try:
        from trials.stepwise import repaired_zeros
    except ImportError as error:
        raise click.ClickException(
            f"{STEPWISE!r} needs torch (pip install 'onnxmi[bench]'), other --method do not"
        ) from error
    return repaired_zeros(session, sparsity)


REPAIRED_ZEROS: Mapping[str, Callable[[PruningSession, float], Mapping[str, NDArray[Any]]]] = {
    "sparsegpt, per block": sparsegpt,
    STEPWISE: _stepwise,
}
SEEDLESS = {"magnitude"}  # without repair, such a score gives the same model with any seed


class Free:
    """The rows of one model."""

    def __init__(self, case: Case, records: Records) -> None:
        self._case, self._records = case, records
        self._studies: dict[tuple[int, str], PruningSession] = {}
        self._problem = Priced()

    def run(self, sparsities: Sequence[float], seeds: Sequence[int], only: Sequence[str] = ()) -> None:
        for seed in seeds:
            for sparsity in sparsities:
                for method, repair in _methods(seed):
                    if only and method not in only:
                        continue
                    key = self._key(method, repair, sparsity, seed)
                    self._records.ensure(key, lambda k=key: self._row(k))

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
            session = self._session(key["seed"], "gaussian")
            proto = zeroed(session.source.proto, ZEROINGS[method](session, sparsity))
            return self._judged(proto, share_of_zeros(session, proto))
        if method in REPAIRED_ZEROS:
            session = self._session(key["seed"], "gaussian")
            proto = with_values(session.source.proto, REPAIRED_ZEROS[method](session, sparsity))
            return self._judged(proto, share_of_zeros(session, proto))
        if method in ALLOCATED:
            session = with_options(self._session(key["seed"], "gaussian"), score=ALLOCATED[method])
            return self._judged(*allocated_cut(session, sparsity, self._problem.of(session)))
        score, _, estimator = method.partition("/")
        session = self._session(key["seed"], estimator := estimator or "gaussian")
        session = with_options(session, score=score, estimator=estimator, repair=key["repair"])
        return self._judged(*uniform_cut(session, sparsity))

    def _session(self, seed: int, estimator: str) -> PruningSession:
        """One capture a seed; a second one for the histograms, which would slow the others down."""
        if (seed, estimator) not in self._studies:
            self._studies = {k: v for k, v in self._studies.items() if k[0] == seed}
            score = "pairwise" if estimator == "binned" else "joint"
            self._studies[seed, estimator] = self._case.session(seed, score=score, estimator=estimator)
        return self._studies[seed, estimator]

    def _judged(self, proto: onnx.ModelProto, sparsity: float) -> Row:
        return {"reached": sparsity} | self._case.judge.quality(proto) | sizes(proto)


def _methods(seed: int) -> Iterator[tuple[str, bool]]:
    """(method, repair), the dearest ones last."""
    for repair in (True, False):
        for score, estimator in STRUCTURED:
            if repair or score not in SEEDLESS or seed == 0:
                yield (score if estimator == "gaussian" else f"{score}/{estimator}"), repair
    for method in ZEROINGS:
        if seed == 0 or method.startswith("wanda"):
            yield method, False
    for method in (*ALLOCATED, *REPAIRED_ZEROS):
        yield method, True


def make_free(
    folder: Path,
    name: str,
    samples: int | None,
    sparsities: Sequence[float],
    seeds: Sequence[int],
    only: Sequence[str],
    records: Records,
) -> None:
    """Make the rows of one model and some seeds."""
    Free(Case(folder, name, samples), records).run(sparsities, seeds, only)
