"""The measure of damage of a model on some samples, as a run makes it."""

from __future__ import annotations

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.evaluation.calibrate import make_yardstick
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.transforms.analysis import Analysis, find_meaning


def yardstick_of(analysis: Analysis, data: Calibration, masks: tuple[str, ...] = ()) -> Yardstick:
    meaning = find_meaning(analysis, data)
    return make_yardstick(analysis.model, meaning, data, np.arange(data.count), masks, 32, 1)
