"""Quality: how much the cut model's outputs differ from the original's, and from the labels where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnxmi.data.calibration import Calibration
from onnxmi.evaluation.evaluation_set import EvaluationSet
from onnxmi.evaluation.judgement import Judgement
from onnxmi.runtime.session import open_session
from onnxmi.typing import Array, Samples


@dataclass(frozen=True)
class Quality:
    """Outputs of the cut model against the original's on the same samples.

    Attributes
    ----------
    samples : int
        How many were compared.
    relative_error : float
        Root of the damage of all outputs (see `onnxmi.evaluation.yardstick`): of numbers, the root mean square
        difference relative to each column's standard deviation.
    agreement : float or None
        Share of positions at which the first output's last axis has its maximum at the same place; None where that axis
        has fewer than two entries or the output is no number.
    accuracy, original_accuracy : float or None
        Share of samples whose maximum is at the label; None without labels or where outputs are not (samples, classes).
    """

    samples: int
    relative_error: float
    agreement: float | None
    accuracy: float | None
    original_accuracy: float | None


def quality_of(panel: EvaluationSet, judgement: Judgement) -> Quality:
    """Return what a judgement found, in figures for people."""
    reference, made = panel.first_output(panel.reference), panel.first_output(judgement.answers)
    count, error = len(panel.samples), float(np.sqrt(judgement.damage.total))
    if reference is None or made is None:
        return Quality(count, error, None, None, None)
    return replace(compare(reference, made, panel.labels, count), relative_error=error)


def outputs(proto: onnx.ModelProto, calibration: Calibration, samples: Samples, batch_size: int, threads: int) -> Array:
    """First output of a model on some samples; what is not sample-wise is flattened."""
    return np.concatenate(list(_batch_outputs(proto, calibration, samples, batch_size, threads)))


def _batch_outputs(
    proto: onnx.ModelProto, calibration: Calibration, samples: Samples, batch_size: int, threads: int
) -> Iterator[Array]:
    session = open_session(proto, threads=threads)
    for chosen, feeds in calibration.batches(samples, batch_size):
        first = np.asarray(session.run(feeds)[session.outputs[0]])
        if first.ndim and first.shape[0] == calibration.fed(feeds):
            yield first[: len(chosen)]
        else:
            yield first.reshape(-1)


def compare(original: Array, cut: Array, labels: Array | None, samples: int) -> Quality:
    """Compare the first outputs of two models; of another size, which values decide on, nothing can be told."""
    if original.shape != cut.shape:
        return Quality(samples, float("inf"), None, None, None)
    if original.dtype.kind != "f":
        same = float(np.mean(original == cut))
        return Quality(samples, 1.0 - same, same, None, None)
    a, b = original.astype(np.float64), cut.astype(np.float64)
    # A constant output has no spread; its error then stays absolute.
    spread = float(a.std()) or 1.0
    error = float(np.sqrt(np.mean(np.square(a - b)))) / spread
    if a.ndim < 2 or a.shape[-1] < 2:
        return Quality(samples, error, None, None, None)
    agreement = float(np.mean(a.argmax(-1) == b.argmax(-1)))
    if labels is None or a.ndim != 2:
        return Quality(samples, error, agreement, None, None)
    return Quality(samples, error, agreement, _accuracy(b, labels), _accuracy(a, labels))


def _accuracy(logits: Array, labels: Array) -> float:
    return float(np.mean(logits.argmax(-1) == labels))
