"""Reading samples from a file or folder as a model takes them."""

from __future__ import annotations

import pytest

import onnxmi
from onnxmi.data.sources import as_calibration
from onnxmi.errors import OnnxmiError


def read(path, model, **options):
    return as_calibration(onnxmi.source(path, **options), model)


def refused(path, model, **options):
    with pytest.raises(OnnxmiError) as caught:
        read(path, model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
