"""Which axis of each array holds the samples: what the user says, what the model says, and what their shapes say."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.data.stored import SampleArray
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model import TensorInfo
from onnxmi.model.batch_axis import batch_axes, is_free
from onnxmi.typing import Shape


def find_sample_axes(
    arrays: Mapping[str, SampleArray], inputs: Mapping[str, TensorInfo], given: Mapping[str, int], where: str
) -> dict[str, int]:
    """Return the axis of samples of each array; 0 where nothing says another.

    Parameters
    ----------
    arrays : mapping of input name to array
        One for each input.
    inputs : mapping of input name to TensorInfo
        What the model says of them.
    given : mapping of input name to int
        What the user says.
    where : str
        Where the arrays come from, for messages.

    Raises
    ------
    UsageError
        If the user speaks of an input or an axis that is not there.
    CalibrationError
        If the samples lie on another axis than the model's batch does.
    """
    named = {name: _normalized(name, axis, inputs, arrays) for name, axis in given.items()}
    axes = dict.fromkeys(inputs, 0) | dict(batch_axes(tuple(inputs.values()))) | named
    axes |= _fixed_batches(arrays, inputs, {name for name, axis in axes.items() if not axis and name not in named})
    for name, axis in axes.items():
        if axis:
            _check_layout(arrays[name].shape, inputs[name], axis, where)
    return axes


def _normalized(name: str, axis: int, inputs: Mapping[str, TensorInfo], arrays: Mapping[str, SampleArray]) -> int:
    if name not in inputs:
        known = ", ".join(map(repr, inputs))
        raise UsageError(f"--sample-axis {name}={axis}: the model has no input {name!r}; it has {known}")
    rank = arrays[name].ndim
    if not -rank <= axis < rank:
        raise UsageError(f"--sample-axis {name}={axis}: {name!r} has {rank} axes, numbered from 0")
    return axis % rank


def _check_layout(shape: Shape, info: TensorInfo, axis: int, where: str) -> None:
    """Refuse an array whose samples lie elsewhere; where the model leaves all sizes open, nothing can be told."""
    dims = info.dims or ()
    fixed = [place for place, dim in enumerate(dims) if place != axis and not is_free(dim)]
    if len(shape) == len(dims) and any(shape[place] != dims[place] for place in fixed):
        raise CalibrationError(
            f"{where}: array {info.name!r} has shape {shape}, the model expects {shown_dims(info)} with the samples on"
            f" axis {axis}"
        )


def shown_dims(info: TensorInfo) -> str:
    """Return a graph input's sizes as messages have them."""
    return "(" + ", ".join("?" if dim is None else str(dim) for dim in info.dims or ()) + ")"


def _fixed_batches(
    arrays: Mapping[str, SampleArray], inputs: Mapping[str, TensorInfo], open_names: set[str]
) -> dict[str, int]:
    """Find samples behind the first axis where the graph fixes the batch, or has no name for it.

    The other inputs tell how many samples there are: an array is laid out so if it differs from the model's sizes on
    one axis only, where it has just as many entries and the model the same batch.
    """
    votes = {
        (arrays[name].shape[0], None if is_free(dims[0]) else dims[0])
        for name in open_names
        if (dims := inputs[name].dims) and arrays[name].ndim == len(dims) and arrays[name].shape[0] != dims[0]
    }
    if len(votes) != 1:
        return {}
    count, batch = votes.pop()
    places = {name: _open_axes(arrays[name].shape, inputs[name]) for name in open_names}
    return {
        name: axes[0]
        for name, axes in places.items()
        if len(axes) == 1
        and axes[0]
        and arrays[name].shape[axes[0]] == count
        and _batch(name, axes[0], inputs) == batch
    }


def _batch(name: str, axis: int, inputs: Mapping[str, TensorInfo]) -> int | str | None:
    dim = (inputs[name].dims or ())[axis]
    return None if is_free(dim) else dim


def _open_axes(shape: Shape, info: TensorInfo) -> list[int]:
    """Return the axes whose size the graph leaves open, or that an array has another size on."""
    dims = info.dims or ()
    if len(shape) != len(dims):
        return []
    return [axis for axis, dim in enumerate(dims) if is_free(dim) or shape[axis] != dim]
