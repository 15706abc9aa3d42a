"""Packing: find out whether padding may be left out of the batches, by trying it on the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.data.padding import Padding
from onnxmi.errors import ModelError
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.padding_mask import mask_inputs
from onnxmi.model import Model
from onnxmi.runtime.session import as_numpy, open_session

WORTH = 0.9  # share of positions that count from which on nothing is gained
SAME = 1e-3  # largest difference of an output, relative to its largest value, that rounding makes


def packed(model: Model, graph: ChannelGraph, calibration: Calibration, mask: str | None, threads: int) -> Calibration:
    """Return the calibration with its padding told, if the model gives the same without it.

    Files are padded to their longest sample, so most of what is run on short ones can be padding. It is left out of
    the batches where the mask says what it is, the model takes shorter inputs, and its shortest sample has the same
    outputs either way.
    """
    for name in mask_inputs(model, graph, mask):
        array = calibration.arrays.get(name)
        if array is None or array.ndim != 2 or name in calibration.whole or calibration.step is not None:
            continue
        alike = {n for n, a in calibration.arrays.items() if a.ndim > 1 and a.shape[:2] == array.shape}
        padding = Padding.of(array, frozenset(alike - calibration.whole))
        padded = padding.lengths.mean() < WORTH * array.shape[1]
        if padded and _makes_no_difference(model, calibration, padding, threads):
            return replace(calibration, padding=padding)
    return calibration


def _makes_no_difference(model: Model, calibration: Calibration, padding: Padding, threads: int) -> bool:
    shortest = np.argsort(padding.lengths, kind="stable")[:1]
    whole = calibration.feed(shortest)
    session = open_session(model.proto, threads=threads)
    try:
        before, after = (as_numpy(session.run(feeds)) for feeds in (whole, padding.trimmed(whole, shortest)))
    except ModelError:
        return False
    for name, short in after.items():
        full = before[name]
        if full.ndim != short.ndim or short.dtype.kind not in "fiub":
            return False
        common = full[tuple(slice(size) for size in short.shape)]
        if common.shape != short.shape or not np.allclose(common, short, rtol=0, atol=SAME * (np.abs(full).max() or 1)):
            return False
    return True
