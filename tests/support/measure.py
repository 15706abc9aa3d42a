"""The measure of damage of a model on some samples, as a run makes it."""

from __future__ import annotations

import numpy as np

from onnxmi.analysis import Analysis, find_meaning
from onnxmi.calibration import Calibration
from onnxmi.outputs.calibrate import make_yardstick
from onnxmi.outputs.yardstick import Yardstick


def yardstick_of(analysis: Analysis, data: Calibration, masks: tuple[str, ...] = ()) -> Yardstick:
    meaning = find_meaning(analysis, data)
    return make_yardstick(analysis.model, meaning, data, np.arange(data.count), masks, 32, 1)
