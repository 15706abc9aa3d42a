"""What samples are, whatever file they come from and wherever it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.data.streams import stored_states
from onnxmi.typing import Array


def samples_digest(data: Calibration) -> str:
    """SHA-256 of all that is read of samples: their inputs, their classes, and what is the same for all."""
    digest = hashlib.sha256()
    for array in _arrays(data):
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes())
    return digest.hexdigest()


def _arrays(data: Calibration) -> Iterator[Array]:
    yield data.fingerprints
    for name in sorted(data.whole):
        yield np.asarray(data.arrays[name])
    for array in (data.labels, data.sequences):
        yield np.zeros(0) if array is None else array
    if data.states:
        yield stored_states(data.states)
