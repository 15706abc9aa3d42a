"""What was read as samples: the first of them, and what the user should know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.typing import Array


def samples_data(samples: Calibration) -> dict[str, Any]:
    """Return what `onnxmi calib --json` prints of samples."""
    first = samples.feed(np.array([0]))
    return {
        "samples": samples.count,
        "inputs": {name: {**_described(value), "same_for_all": name in samples.whole} for name, value in first.items()},
        "labels": samples.labels is not None,
        "random": samples.random,
        "notes": list(samples.notes),
    }


def _described(value: Array) -> dict[str, Any]:
    described: dict[str, Any] = {"type": str(value.dtype), "shape": list(value.shape)}
    if value.dtype.kind in "fiub" and value.size:
        described |= {
            "least": value.min().item(),
            "most": value.max().item(),
            "mean": float(value.mean(dtype=np.float64)),
        }
    return described


def samples_lines(samples: Calibration) -> Iterator[str]:
    """Yield a line for each input of the first sample, and the notes."""
    yield "first sample"
    for name, one in samples_data(samples)["inputs"].items():
        spread = f", {one['least']:.4g} to {one['most']:.4g}, mean {one['mean']:.4g}" if "mean" in one else ""
        same = ", the same for all" if one["same_for_all"] else ""
        yield f"  {name}: {one['type']} {tuple(one['shape'])}{spread}{same}"
    if samples.labels is not None:
        yield f"  labels: {len(np.unique(samples.labels)):,} classes"
    yield from (f"note: {note}" for note in samples.notes)
