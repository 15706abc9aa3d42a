"""Which rows of an answer count: neither padding nor samples that only fill a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from onnxmi.outputs.view import View
from onnxmi.typing import Array, Bools, Floats


def counted_rows(view: View, shape: tuple[int, ...], count: int, masks: Iterable[Array]) -> Bools | None:
    """Return which rows of a batch's tensor count, (rows,) in the order of `column_rows`; None where all do.

    Parameters
    ----------
    shape : tuple of int
        Of the tensor.
    count : int
        Samples of the batch that count; a graph with a fixed batch is fed full ones.
    masks : iterable of (samples, positions) array
        Inputs that are zero at padding.
    """
    counts = np.ones(shape, dtype=np.bool_)
    axis = view.sample_axis
    if axis is not None and count < shape[axis]:
        np.moveaxis(counts, axis, 0)[count:] = False
    for mask in masks:
        _leave_out(counts, view, mask)
    # All columns of a row count alike, so its first one tells.
    rows = np.moveaxis(counts, view.axes, range(-len(view.axes), 0)).reshape(-1, _columns(shape, view))[:, 0]
    return None if rows.all() else rows


def with_sample_axes(views: Iterable[View], values: Mapping[str, Array], fed: int) -> dict[str, Array]:
    """Return the tensors of views in a run of `fed` samples, with the axis that a Squeeze without axes drops of one."""
    return {view.tensor: _with_sample_axis(view, values[view.tensor], fed) for view in views if view.tensor in values}


def _with_sample_axis(view: View, tensor: Array, fed: int) -> Array:
    axis = view.sample_axis
    if axis is None or fed > 1 or (tensor.ndim > max((axis, *view.axes)) and tensor.shape[axis] == 1):
        return tensor
    return np.expand_dims(tensor, axis)


def row_shares(view: View, shape: tuple[int, ...], count: int, masks: Iterable[Array]) -> Floats:
    """Return what each row of a batch's tensor is of its sample, (rows,) float64: equal shares, 0 where none counts."""
    rows = int(np.prod(shape, dtype=np.int64)) // max(_columns(shape, view), 1)
    counted = counted_rows(view, shape, count, masks)
    told = np.ones(rows) if counted is None else counted.astype(np.float64)
    # One sample alone: its rows are all there are.
    if view.sample_axis is None:
        return told / max(float(told.sum()), 1.0)
    others = [size for axis, size in enumerate(shape) if axis not in view.axes]
    place = sum(axis not in view.axes for axis in range(view.sample_axis))
    by_sample = np.moveaxis(told.reshape(others), place, 0)
    # A long sample counts as much as a short one: its rows have smaller shares.
    totals = by_sample.reshape(len(by_sample), -1).sum(1)
    by_sample /= np.maximum(totals, 1.0).reshape(-1, *[1] * (by_sample.ndim - 1))  # a view: `told` changes with it
    return told


def _columns(shape: tuple[int, ...], view: View) -> int:
    return int(np.prod([shape[axis] for axis in view.axes], dtype=np.int64))


def _leave_out(counts: Bools, view: View, mask: Array) -> None:
    """Leave out padded positions where the mask's two axes are the tensor's first two, either way round."""
    if mask.ndim != 2 or counts.ndim < 2 or view.sample_axis not in (0, 1) or {0, 1} & set(view.axes):
        return
    positions = counts.shape[1 - view.sample_axis]
    if not mask[:, positions:].any():  # batches are run without what is padding in all of their samples
        mask = mask[:, :positions]
    told = mask if view.sample_axis == 0 else mask.T
    if told.shape == counts.shape[:2]:
        counts &= (told != 0).reshape((*told.shape, *[1] * (counts.ndim - 2)))
