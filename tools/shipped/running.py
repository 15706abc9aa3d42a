"""Models in onnxruntime: run in batches, and timed in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from shipped.family import Array, Arrays, Figures, Groups, Model

BATCH = 8
TURNS, SECONDS = 200, 10.0  # of a timing, whichever ends first
LEAST_TURNS, RUNS_A_TURN = 4, 5
QUICK = 0.1
ERRORS_ONLY = 3


@dataclass(frozen=True)
class Loaded:
    """A model in a session of one thread."""

    session: onnxruntime.InferenceSession

    @classmethod
    def of(cls, path: Path) -> Loaded:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        return cls(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(info.name for info in self.session.get_inputs())

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(info.name for info in self.session.get_outputs())

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Arrays) -> list[Array]:
        return list(self.session.run(None, dict(feeds)))


def answers(model: Model, arrays: Arrays, batch: int = BATCH) -> list[Array]:
    """All outputs for all samples of a group, in batches."""
    count = len(arrays[model.inputs[0]])
    runs = [
        model.run({name: arrays[name][start : start + batch] for name in model.inputs})
        for start in range(0, count, batch)
    ]
    return [np.concatenate(of_one) for of_one in zip(*runs, strict=True)]


def both(original: Model, pruned: Model, groups: Groups) -> Iterator[tuple[Arrays, list[Array], list[Array]]]:
    """Each group with the outputs of both models."""
    for arrays in groups.values():
        yield arrays, answers(original, arrays), answers(pruned, arrays)


def latency(original: Model, pruned: Model, feeds: Arrays) -> Figures:
    """Times in ms and their ratio; the models take turns, a few runs each.

    `speedup` compares the processor time of the calling thread, which is the only one that works, in the quickest tenth
    of the runs: on a machine with other work the wall time tells more of that work than of the models.
    """
    wall, busy = _taken((original, pruned), feeds)
    ms = [float(np.quantile(times, QUICK)) * 1e3 for times in busy]
    median = [float(np.median(times)) * 1e3 for times in wall]
    return {
        "ms_original": ms[0],
        "ms_pruned": ms[1],
        "speedup": ms[0] / ms[1],
        "wall_ms_original": median[0],
        "wall_ms_pruned": median[1],
        "timed_runs": len(wall[0]),
    }


def _taken(models: Sequence[Model], feeds: Arrays) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds on the clock, and of the processor, of each model's runs; the first turn is not counted."""
    wall, busy = [[] for _ in models], [[] for _ in models]
    end = time.monotonic() + SECONDS
    for turn in range(TURNS):
        for number, model in enumerate(models):
            for _ in range(RUNS_A_TURN):
                clock, used = time.perf_counter(), time.thread_time()
                model.run(feeds)
                if turn:
                    busy[number].append(time.thread_time() - used)
                    wall[number].append(time.perf_counter() - clock)
        if turn > LEAST_TURNS and time.monotonic() > end:
            break
    return wall, busy
