"""Damage curves by many workers: each ranks the units of some layers, then cuts each of these alone and measures it.

What a backward pass predicts of the damage is predicted at home, in between, from all rankings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from onnxmi.budget.damage_curves import DamageCurve
from onnxmi.data.npz import read_archive, write_archive
from onnxmi.data.shards import Shard
from onnxmi.errors import DataError
from onnxmi.execution.executor import Task, as_they_end, run_all
from onnxmi.graph.channel_graph import Layer, LayerId
from onnxmi.information import Selection
from onnxmi.model.save import write_atomically
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.shared_session import ParallelRun, SharedSession
from onnxmi.pruning.sizing import Predicted, Rankings, damage_reference, measured_curves, ranked
from onnxmi.runtime.session import limited
from onnxmi.selection.top_down import Ranking
from onnxmi.typing import Progress, silent


class CurvesByWorkers:
    """Ranks and measures as `onnxmi.pruning.sizing.Here` does."""

    def __init__(self, run: ParallelRun) -> None:
        self._run = run
        self._groups: list[tuple[tuple[LayerId, ...], Path]] = []  # layers, and the file of their rankings

    def rank(self, session: PruningSession, layers: Sequence[Layer], progress: Progress) -> Rankings:
        """Rank the units of layers; every group's rankings are in a file for who measures the group."""
        shared = self._run.shared(session)
        count = min(len(layers), self._run.workers.shards)
        groups = [layers[Shard(number, count).among(len(layers))] for number in range(count)]
        self._groups = [(tuple(layer.id for layer in group), self._run.new_file(".npz")) for group in groups]
        tasks = [Task("rank", rank_layers, (shared, group, str(path))) for group, path in self._groups]
        run_all(self._run.workers.executor, tasks, progress)
        rankings: dict[LayerId, Ranking] = {}
        for _, path in self._groups:
            rankings |= _read(session, path)
        return rankings

    def measure(
        self, session: PruningSession, rankings: Rankings, predicted: Predicted, progress: Progress
    ) -> Iterator[tuple[LayerId, DamageCurve]]:
        """Yield the damage curves of the layers that were ranked, as they are measured."""
        shared = self._run.shared(session)
        tasks = [
            Task(
                "price",
                measure_layers,
                (shared, str(path), {layer: predicted[layer] for layer in group if layer in predicted}),
            )
            for group, path in self._groups
        ]
        for _, curves in as_they_end(self._run.workers.executor, tasks, progress):
            yield from curves.items()


def rank_layers(shared: SharedSession, layers: tuple[LayerId, ...], target: str) -> None:
    """Rank the units of some layers, and leave the rankings in a file; a task."""
    session = shared.session()
    with limited(shared.threads):
        rankings = ranked(session, [layer for layer in session.layers if layer.id in layers], silent)
    arrays = [
        (f"{layer}/{name}", array)
        for layer, ranking in rankings.items()
        for name, array in (("order", ranking.selection.order), ("gains", ranking.selection.gains))
    ]
    write_atomically(Path(target), lambda stream: write_archive(stream, arrays))


def measure_layers(shared: SharedSession, path: str, predicted: Predicted) -> dict[LayerId, DamageCurve]:
    """Measure the damage of cutting some layers, each alone; a task."""
    session = shared.session()
    with limited(shared.threads):
        rankings = _read(session, Path(path))
        return dict(measured_curves(session, rankings, predicted, silent, _reference))


_reference = lru_cache(maxsize=2)(damage_reference)  # of a worker's session: it serves all of its groups


def _read(session: PruningSession, path: Path) -> dict[LayerId, Ranking]:
    arrays = read_archive(path, DataError)
    return {
        layer.id: Ranking(layer, Selection(np.sort(order), order, arrays[f"{layer.id}/gains"]))
        for layer in session.layers
        if (order := arrays.get(f"{layer.id}/order")) is not None
    }
