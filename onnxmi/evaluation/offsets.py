"""What a model's answers are off by on average, column by column."""

from __future__ import annotations

import numpy as np
import onnx

from onnxmi.evaluation.answers import batches_of
from onnxmi.evaluation.counting import row_shares
from onnxmi.evaluation.evaluation_set import EvaluationSet
from onnxmi.outputs.view import Answers, View, column_rows
from onnxmi.typing import Floats


def mean_offsets(panel: EvaluationSet, proto: onnx.ModelProto) -> dict[str, Floats]:
    """Return what to add to the compared tensors of a model so that their columns' means are the original's.

    A mean of few samples is shrunk by the share of it that their spread explains (James and Stein 1961, each column by
    itself): what is not clearly off is left alone, so that adding it costs next to nothing on other samples.

    Returns
    -------
    dict of str to (columns,) float64
        For each tensor with one axis of columns. None of those that cannot be compared sample by sample.

    Raises
    ------
    ModelError
        If the model does not run.
    """
    answers = panel.answers(proto)
    views = [view for view in panel.meaning.views if len(view.axes) == 1]
    errors = {view.tensor: _by_sample(panel, view, answers) for view in views}
    return {
        tensor: _shrunk(found)
        for tensor, found in errors.items()
        if found is not None and len(found) > 1 and np.isfinite(found).all()
    }


def _by_sample(panel: EvaluationSet, view: View, made: Answers) -> Floats | None:
    """Return each sample's mean error, (samples, columns): the original's answer less the model's."""
    means: list[Floats] = []
    others, axis = made.values.get(view.tensor), view.sample_axis
    if others is None or axis is None:
        return None
    for samples, expected in batches_of(view, panel.reference):
        if any(others[n].shape != panel.reference.values[view.tensor][n].shape for n in samples):
            return None
        answered = np.stack([others[n] for n in samples], axis=axis)
        rows = column_rows(np.subtract(expected, answered, dtype=np.float64), view.axes)
        places = [-1 if each == axis else 1 for each in range(expected.ndim)]
        owner = column_rows(np.broadcast_to(np.arange(len(samples)).reshape(places), expected.shape), view.axes)[:, 0]
        shares = row_shares(view, expected.shape, len(samples), [mask[samples] for mask in panel.padding])
        sums = np.zeros((len(samples), rows.shape[1]))
        # `add.at`: several rows belong to one sample.
        np.add.at(sums, owner, shares[:, None] * rows)
        means.append(sums)
    return np.concatenate(means) if means and len({one.shape[1] for one in means}) == 1 else None


def _shrunk(errors: Floats) -> Floats:
    """Mean over the samples (n, columns), less what chance explains of it."""
    # Variance of the mean of n samples.
    mean, variance = errors.mean(0), errors.var(0, ddof=1) / len(errors)
    square = np.square(mean)
    # A James-Stein estimate: a mean that is within its own noise is not corrected for.
    share = np.divide(variance, square, out=np.ones_like(mean), where=square > 0)
    return np.asarray(mean * np.maximum(1.0 - share, 0.0))
