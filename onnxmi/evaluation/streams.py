"""Running a model on samples that follow each other with its own states, as it is used.

An error of a state adds up from step to step. On the states that the original comes to, it would not be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.data.streams import steps_of
from onnxmi.runtime.session import Session
from onnxmi.typing import Array, Samples

Results = Mapping[str, Any]


def runs_of(session: Session, data: Calibration, samples: Samples, size: int) -> Iterator[tuple[Samples, int, Results]]:
    """Run a model on samples in batches.

    Yields
    ------
    samples, how many were fed (more than those where the graph fixes the batch), and what the model gave.
    """
    if data.sequences is None or not data.states or not set(data.states.values()) <= set(session.outputs):
        for chosen, feeds in data.packed(samples, size):
            yield chosen, data.fed(feeds), session.run(feeds)
        return
    carried = _Carried(data)
    for step, predecessors in steps_of(data.sequences, samples):
        carried.go_on(step, predecessors)
        for start in range(0, len(step), data.step or size):
            chosen = step[start : start + (data.step or size)]
            fed = chosen if data.step is None else np.resize(chosen, data.step)
            results = session.run({**data.feed(fed), **carried.met_by(fed)})
            carried.keep(chosen, results)
            yield chosen, len(fed), results


class _Carried:
    """The states after the last step, sample by sample."""

    def __init__(self, data: Calibration) -> None:
        self._data = data
        self._after: dict[int, dict[str, Array]] = {}
        self._before: dict[int, dict[str, Array]] = {}

    def go_on(self, samples: Samples, predecessors: Samples) -> None:
        """Begin a step: each sample meets what its predecessor left."""
        pairs = zip(samples.tolist(), predecessors.tolist(), strict=False)
        self._before = {sample: self._after[predecessor] for sample, predecessor in pairs}
        self._after = {}

    def met_by(self, samples: Samples) -> dict[str, Array]:
        """Return the states for a batch; nothing in the first step, whose states the samples hold."""
        if not self._before:
            return {}
        each = [self._before[sample] for sample in samples.tolist()]
        return {name: np.stack([one[name] for one in each], self._data.axis(name)) for name in self._data.states}

    def keep(self, samples: Samples, results: Results) -> None:
        """Take the states out of what a batch gave."""
        for name, output in self._data.states.items():
            states = np.moveaxis(results[output], self._data.axis(name), 0)
            for sample, state in zip(samples.tolist(), states, strict=False):
                self._after.setdefault(sample, {})[name] = state
