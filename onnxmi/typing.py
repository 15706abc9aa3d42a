"""What signatures in every folder speak of: arrays, shapes, and the function that is told of progress."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Shape = tuple[int, ...]
AnyPath = str | PathLike[str]
Samples = NDArray[np.int64]
"""Indices of samples in a calibration file."""
Progress = Callable[[str, float, float], None]
"""(stage, steps done, those in part too, steps in all)"""


def silent(stage: str, done: float, total: float) -> None:
    """Report progress to nobody."""
