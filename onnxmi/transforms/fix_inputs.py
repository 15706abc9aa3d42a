"""The model without the branches that are never taken: with inputs that a user fixes, or with none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.errors import UsageError, stage
from onnxmi.model import Model
from onnxmi.model.fixed_inputs import read_fixed, with_fixed_inputs
from onnxmi.typing import Array


@stage("fixed inputs")
def fix_inputs(model: Model, texts: Sequence[str]) -> tuple[Model, Mapping[str, Array]]:
    """Return the model with inputs fixed, and their values; the model itself where all its branches may be taken.

    Parameters
    ----------
    texts : sequence of str
        Such as ``sr=16000``.

    Raises
    ------
    UsageError
        If an input does not exist, or a value does not fit.
    """
    fixed = read_fixed(texts, model.graph.inputs)
    made = with_fixed_inputs(model.proto, fixed)
    return (model if made is model.proto else replace(model, proto=made)), fixed


def require_fixed(model: Model, data: Calibration, texts: Sequence[str]) -> None:
    """Raise UsageError where the samples hold other values of an input than the one that it is fixed to."""
    for name, value in read_fixed(texts, model.graph.inputs).items():
        found = data.arrays[name]
        other = found != value.reshape(-1)[0]
        if np.any(other):
            raise UsageError(f"--fix {name}={value.reshape(-1)[0]}: the samples hold {found[other].reshape(-1)[0]}")
