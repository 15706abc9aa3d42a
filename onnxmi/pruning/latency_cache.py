"""Times of cut models, kept between runs: what was timed once on a machine is not timed again.

The file lies in the user's cache folder, one for each processor, version of onnxruntime and number of threads. It holds
times by model, inputs and sizes. It can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxmi.budget.latency_model import (
    PROBES,
    QUANTIZED_PROBES,
    LatencyModel,
    fit_times,
    kinds_of_work,
    sample_sizes,
    time_cuts,
)
from onnxmi.errors import DataError
from onnxmi.graph.channel_graph import LayerId, UnitCounts
from onnxmi.graph.cost import all_shapes
from onnxmi.model.save import write_atomically
from onnxmi.pruning.session import PruningSession
from onnxmi.runtime.cache_folder import cache_folder
from onnxmi.runtime.stopwatch import Stopwatch
from onnxmi.typing import Ints, Progress, silent

Times = tuple[float, list[float]]


def latency_model(session: PruningSession, sizes: Mapping[LayerId, Ints], progress: Progress = silent) -> LatencyModel:
    """Fit a latency model to times of cuts, measured now or kept from before; of 8-bit files, if so written."""
    analysis, feeds, threads = session.analysis, session.timed_feeds, session.options.threads
    layers = [layer.id for layer in session.layers]
    probes = PROBES if session.precision is None else QUANTIZED_PROBES
    draws = sample_sizes(sizes, probes, session.options.seed)
    path, key = _path(threads, session.stopwatch), _key(session, draws)

    def timed() -> list[list[float]]:
        kept = _read(path).get(key)
        if kept is None or len(kept[1]) != len(draws):
            dense, shares = time_cuts(analysis, draws, feeds, threads, progress, session.as_written, session.stopwatch)
            kept = dense, shares.tolist()
            _write(path, key, kept)
        return [[kept[0]], kept[1]]

    (dense,), shares = session.timings.of(["cuts", key], [1, len(draws)], timed)
    model = analysis.model
    shapes = all_shapes(model.graph, model.proto, feeds)
    work = kinds_of_work(model, analysis.graph, shapes, layers)
    return fit_times(work, draws, dense, np.array(shares), layers)


def _key(session: PruningSession, draws: list[UnitCounts]) -> str:
    """Name what is timed: the model, as it is looked at, the shapes of its inputs and the sizes."""
    shapes = sorted((name, list(np.shape(value))) for name, value in session.timed_feeds.items())
    recipe = None if session.precision is None else session.precision.recipe.to_dict()
    # Fewer positions and split tables are not in the model's digest, but in that of its nodes.
    model = session.model.digest, session.model.nodes_digest
    text = json.dumps([*model, recipe, shapes, [sorted(draw.items()) for draw in draws]])
    return hashlib.sha256(text.encode()).hexdigest()


def _path(threads: int, stopwatch: Stopwatch) -> Path:
    """Return the file of the machine that models are timed on, whether it is there or not."""
    on = stopwatch.machine
    machine = json.dumps([on.processor, on.count, on.onnxruntime, threads])
    return cache_folder() / f"times-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"


def _read(path: Path) -> dict[str, Times]:
    """Return what was kept; nothing where the file is missing or damaged, for it can be measured again."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): (float(dense), [float(share) for share in shares]) for key, (dense, shares) in table.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, key: str, times: Times) -> None:
    """Keep times for the next run; a folder that cannot be written costs that run time, no more."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({**_read(path), key: times}).encode())
    except (OSError, DataError):
        return
