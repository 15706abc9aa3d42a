"""How fast zeroed and cut models are: by shapes alone, so whatever the score; measured once for all methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from onnxmi.pruning.cost_search import plain
from onnxmi.pruning.session import PruningSession
from onnxmi.runtime.timing import Latency
from trials.cases import Case
from trials.kinds import CONTROL, KINDS
from trials.records import Records, Row
from trials.sparsity import uniform_at
from trials.structured import Priced, allocated_cut
from trials.zeroing import by_matrix, zeroed

SECONDS = 60.0  # at most


class Speed:
    """The rows of one model: every kind at every sparsity, in turn with the dense model and a copy of it."""

    def __init__(self, case: Case, records: Records) -> None:
        self._case, self._records = case, records

    def run(self, sparsities: Sequence[float]) -> None:
        keys = [self._key(CONTROL, 0.0), *(self._key(kind, s) for kind in KINDS for s in sparsities)]
        if all(key in self._records for key in keys):
            return
        session = self._case.session(0)
        dense = session.source.proto
        times = self._case.judge.times([dense, dense, *_models(session, sparsities)], SECONDS)
        for key, found in zip(keys, times[1:], strict=True):
            self._records.ensure(key, lambda f=found: _compared(f, times[0]))

    def _key(self, kind: str, sparsity: float) -> Row:
        return {"model": self._case.name, "kind": kind, "sparsity": sparsity}


def _models(session: PruningSession, sparsities: Sequence[float]) -> Iterator[onnx.ModelProto]:
    for sparsity in sparsities:
        yield zeroed(session.source.proto, by_matrix(session, sparsity))
    for sparsity in sparsities:
        yield plain(session, uniform_at(session, sparsity))
    problem = Priced().of(session)
    for sparsity in sparsities:
        yield allocated_cut(session, sparsity, problem)[0]


def _compared(found: Latency, dense: Latency) -> Row:
    interval = found.speedup_interval(dense)
    return {
        "ms": found.median,
        "speedup": found.speedup_over(dense),
        "low": interval.low,
        "high": interval.high,
        "turns": len(found.times),
    }
