"""What the samples cannot say of a result, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.judgement import Judgement
from onnxmi.outputs.panel import Panel
from onnxmi.outputs.view import View, column_rows

Array = NDArray[Any]
Ints = NDArray[np.int64]


def cautions(panel: Panel, judgement: Judgement, drop: float | None) -> list[str]:
    """Return notes for the user.

    Parameters
    ----------
    drop : float or None
        The loss that was promised, in points.
    """
    notes = list(_missing_classes(panel))
    for name, readings in judgement.readings.items() if drop is not None else ():
        assert drop is not None
        doubt = readings[0].loss.doubt(drop)
        if doubt:
            notes.append(f"{readings[0].metric} of {name}: {doubt}; the damage decided")
    return notes


def _missing_classes(panel: Panel) -> Iterator[str]:
    """Say where every sample that is held back has the same answer."""
    for view in panel.meaning.views:
        arrays = panel.reference.values.get(view.tensor, ())
        if view.kind != "classes" or not view.axes or len(arrays) < 2:
            continue
        tops = {int(top) for array in arrays for top in _tops(view, array)}
        if len(tops) == 1 and view.columns > 1 and view.link != "sigmoid":
            yield (
                f"{view.name}: all {len(arrays)} samples that are held back have the top class {tops.pop()}: losses of"
                f" the other {view.columns - 1} cannot be counted, their damage alone is measured"
            )


def _tops(view: View, array: Array) -> Ints:
    axis = view.sample_axis
    axes = view.axes if axis is None else tuple(one - (one > axis) for one in view.axes)
    return np.asarray(column_rows(array, axes).argmax(1))
