"""Whether the samples are where they are taken to be: one sample must not change what another one gives.

Where the graph names no batch, an array of a model that takes time first may lie samples first, and the model runs on
it all the same. So one entry of the axis is changed, and the outputs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.errors import CalibrationError, ModelError
from onnxmi.model import TensorInfo
from onnxmi.model.batch_axis import is_free, is_named
from onnxmi.runtime.session import Feeds, Session, as_numpy
from onnxmi.typing import Array

ENTRIES, CHANGED = 3, 1  # of the axis that is looked at, and which of them is replaced by the next after them
LONGEST = 16  # entries of the first axis, where another one is looked at


def require_independent(session: Session, samples: Calibration, inputs: Sequence[TensorInfo]) -> None:
    """Refuse samples that depend on each other along the first axis, but not along another one.

    Nothing is asked where the graph names its batch or the user says the axis, nor where an input has no other axis
    that could be it.

    Raises
    ------
    CalibrationError
        Naming the axis.
    """
    by_name = {info.name: info for info in inputs if info.name not in samples.whole}
    doubtful = not samples.axes and not samples.said_axes and not any(map(is_named, by_name.values()))
    others = _other_axes(by_name) if doubtful and samples.count > ENTRIES else []
    if not others or _independent(session, samples.feed(np.arange(ENTRIES + 1)), by_name, 0) is not False:
        return
    feeds = samples.feed(np.arange(min(samples.count, LONGEST)))
    for axis in others:
        longest = min(feeds[name].shape[axis] for name in by_name)
        if longest > ENTRIES and _independent(session, feeds, by_name, axis):
            name = next(iter(by_name))
            raise CalibrationError(
                f"calibration: the samples of {name!r} change each other along axis 0, but not along axis {axis}; give"
                f" arrays as the model takes them and --sample-axis {name}={axis}, or {name}=0 if they are right"
            )


def _other_axes(inputs: Mapping[str, TensorInfo]) -> list[int]:
    """Return the axes behind the first that all inputs leave open, as the first."""
    free = [{axis for axis, dim in enumerate(info.dims or ()) if is_free(dim)} for info in inputs.values()]
    common = set.intersection(*free) if free else set()
    return sorted(common - {0}) if 0 in common else []


def _independent(session: Session, feeds: Feeds, names: Mapping[str, TensorInfo], axis: int) -> bool | None:
    """Whether a change of one entry of an axis stays in one entry of an output; None where nothing can be told."""
    before, after = np.arange(ENTRIES), np.arange(ENTRIES)
    after[CHANGED] = ENTRIES
    cut = [{n: v.take(places, axis) if n in names else v for n, v in feeds.items()} for places in (before, after)]
    try:
        first, second = (as_numpy(session.run(inputs)) for inputs in cut)
    except ModelError:
        return None
    pairs = [(first[name], second[name]) for name in first if first[name].shape == second[name].shape]
    changed = [pair for pair in pairs if not np.array_equal(*pair)]
    return any(_stays(*pair) for pair in changed) if changed else None


def _stays(first: Array, second: Array) -> bool:
    for axis in (axis for axis, size in enumerate(first.shape) if size == ENTRIES):
        same = [np.array_equal(first.take(n, axis), second.take(n, axis)) for n in range(ENTRIES)]
        if all(one != (n == CHANGED) for n, one in enumerate(same)):
            return True
    return False
