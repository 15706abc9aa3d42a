"""Answers without those at padding, which nobody reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxmi.evaluation.counting import counted_rows
from onnxmi.outputs.view import Answers, Meaning, View, column_rows
from onnxmi.typing import Array


def without_padding(meaning: Meaning, masks: Sequence[Array], *models: Answers) -> tuple[Meaning, tuple[Answers, ...]]:
    """Leave out padded positions: the views that have some become (rows, columns) for each sample.

    Parameters
    ----------
    meaning : Meaning
        What is compared.
    masks : sequence of (samples, positions) array
        Inputs of the very samples that are zero at padding.
    models : Answers
        Of the same samples, by several models.
    """
    views = []
    values: list[dict[str, tuple[Array, ...]]] = [{} for _ in models]
    for view in meaning.views:
        arrays = models[0].values.get(view.tensor, ())
        counted = [_counted(view, array.shape, [mask[n : n + 1] for mask in masks]) for n, array in enumerate(arrays)]
        # A view without padding keeps its shape, and its axes their meaning.
        if all(rows is None for rows in counted):
            views.append(view)
            continue
        views.append(replace(view, axes=(1,), sample_axis=None))
        for of_model, answers in zip(values, models, strict=True):
            of_model[view.tensor] = tuple(
                _kept(view, array, rows) for array, rows in zip(answers.values[view.tensor], counted, strict=True)
            )
    kept = (Answers(answers.count, {**answers.values, **own}) for answers, own in zip(models, values, strict=True))
    return replace(meaning, views=tuple(views)), tuple(kept)


def _counted(view: View, shape: tuple[int, ...], masks: Sequence[Array]) -> Array | None:
    if view.sample_axis is None or not masks:
        return None
    whole = (*shape[: view.sample_axis], 1, *shape[view.sample_axis :])
    return counted_rows(view, whole, 1, masks)


def _kept(view: View, array: Array, counted: Array | None) -> Array:
    assert view.sample_axis is not None
    rows = column_rows(np.expand_dims(array, view.sample_axis), view.axes)
    return rows if counted is None or len(counted) != len(rows) else rows[counted]
