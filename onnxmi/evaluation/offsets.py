"""What a model's answers are off by on average, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from onnxmi.evaluation.answers import batches_of
from onnxmi.evaluation.counting import row_shares
from onnxmi.evaluation.evaluation_set import EvaluationSet
from onnxmi.outputs.view import Answers, View, column_rows
from onnxmi.typing import Array, Floats


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


def least_damage(panel: EvaluationSet, proto: onnx.ModelProto) -> float:
    """Return the damage of a model once the means of its columns are put right on these very samples.

    No offsets bring numbers nearer to the original's; with probabilities, it is about what offsets can do.

    Raises
    ------
    ModelError
        If the model does not run.
    """
    answers = panel.answers(proto)
    values = dict(answers.values)
    for view in panel.meaning.views:
        errors = _by_sample(panel, view, answers) if len(view.axes) == 1 else None
        if errors is not None and len(errors) and np.isfinite(errors).all():
            values[view.tensor] = _moved(view, values[view.tensor], errors.mean(0))
    return panel.damage(replace(answers, values=values)).total


def _moved(view: View, arrays: Sequence[Array], offsets: Floats) -> tuple[Array, ...]:
    """Add an offset to each column of the samples' arrays, which have no axis of samples."""
    (axis,) = view.axes
    own = axis - (view.sample_axis is not None and view.sample_axis < axis)
    return tuple(array + offsets.reshape([-1 if each == own else 1 for each in range(array.ndim)]) for array in arrays)


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
