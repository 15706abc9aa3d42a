"""Batches that a model runs on: some do not take any number of samples, though their inputs' first axis is dynamic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.data.independence import require_independent
from onnxmi.errors import ModelError
from onnxmi.model import Model
from onnxmi.runtime.session import open_session

TRIED = (1, 3)  # a model that runs on these numbers of samples is taken to run on any
LARGEST = 32  # batch that is tried where one of these fails


def batched(model: Model, calibration: Calibration, threads: int) -> Calibration:
    """Return the calibration with a batch size that the model needs, if it does not run on any number of samples.

    Every batch has just that size then; the last one is filled up by repetition, and its first samples count.

    Raises
    ------
    ModelError
        If the model runs on none of the sizes that were tried; the message is that for one sample.
    CalibrationError
        If the samples turn out to lie on another axis.
    """
    if calibration.step is not None:
        return calibration
    session = open_session(model.proto, threads=threads)

    def trouble(size: int) -> ModelError | None:
        try:
            session.run(calibration.feed(np.resize(np.arange(calibration.count), size)))
        except ModelError as error:
            return error
        return None

    errors = [error for size in TRIED if (error := trouble(size)) is not None]
    if not errors:
        require_independent(session, calibration, model.graph.inputs)
        return calibration
    size = next((size for size in range(1, LARGEST + 1) if trouble(size) is None), None)
    if size is None:
        raise errors[0]
    note = f"the model does not run on every batch size: batches of {size} are used, and the last one is filled up"
    return replace(calibration, step=size, notes=(*calibration.notes, note))
