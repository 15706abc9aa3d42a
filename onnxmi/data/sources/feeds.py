"""Feeds one after the other, put together: from memory, or the shards of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxmi.data.calibration import LABELS, Calibration, check_calibration
from onnxmi.data.stored import LazyArray, SampleArray, SampleWriter
from onnxmi.errors import CalibrationError
from onnxmi.model import Graph
from onnxmi.typing import Shape


def as_arrays(arrays: Mapping[Any, Any], where: str) -> dict[str, SampleArray]:
    """Return what numpy makes of each value."""
    return {name: as_array(value, name, where) for name, value in arrays.items()}


def as_array(value: object, name: object, where: str) -> SampleArray:
    """Return what numpy makes of a value.

    Raises
    ------
    CalibrationError
        With the reason, where it makes nothing of it.
    """
    if isinstance(value, LazyArray):
        return value
    try:
        return np.asarray(value)
    except Exception as error:  # of numpy for ragged lists, of torch for tensors on a GPU, of whatever else comes
        why = " ".join(str(error).split())[:200]
        raise CalibrationError(f"{where}: {name!r} cannot be read as an array: {why}") from error


@dataclass
class _Parts:
    """The arrays of all feeds so far.

    Attributes
    ----------
    whole : dict of str to array
        Inputs without samples, which are the same in all feeds.
    samples : dict of str to SampleWriter
        Inputs with samples, and labels.
    shapes : dict of str to (int, shape)
        Of the same: the axis of samples, and the shape of the first feed.
    """

    whole: dict[str, SampleArray] = field(default_factory=dict)
    samples: dict[str, SampleWriter] = field(default_factory=dict)
    shapes: dict[str, tuple[int, Shape]] = field(default_factory=dict)

    def add(self, arrays: Mapping[str, SampleArray], checked: Calibration, where: str) -> None:
        """Take the arrays of a feed that fits the model; refuse what does not go with the feeds before it."""
        by_name = {name: arrays[name] for name in checked.whole}
        if not self.samples:
            self.whole = by_name
            self.shapes = {n: (checked.axis(n), array.shape) for n, array in arrays.items() if n not in by_name}
            self.samples = {name: SampleWriter(axis) for name, (axis, _) in self.shapes.items()}
        if by_name.keys() != self.whole.keys() or arrays.keys() - by_name.keys() != self.samples.keys():
            raise CalibrationError(f"{where}: has other arrays with samples in them than the feeds before it")
        for name, array in by_name.items():
            if not np.array_equal(array, self.whole[name]):
                raise CalibrationError(
                    f"{where}: {name!r} has no axis of samples and differs from the feeds before it; all samples have"
                    " to share it"
                )
        for name, writer in self.samples.items():
            self._check_shape(name, arrays[name], where)
            writer.add(arrays[name])

    def _check_shape(self, name: str, array: SampleArray, where: str) -> None:
        axis, first = self.shapes[name]
        if np.delete(first, axis).tolist() != np.delete(array.shape, axis).tolist():
            raise CalibrationError(
                f"{where}: {name!r} has shape {array.shape}, in the feeds before it {first}; pad all samples"
                " to one length, with a mask if the model has one, or give those of one length"
            )

    def joined(self) -> dict[str, SampleArray]:
        """Return the arrays of all samples; the parts are given up one by one, as they may be large."""
        names = list(self.samples)
        return {**self.whole, **{name: self.samples.pop(name).array() for name in names}}


def feeds_together(
    feeds: Iterable[object], graph: Graph, where: str, sample_axis: Mapping[str, int]
) -> Mapping[str, SampleArray]:
    """Put feeds from memory together; see `put_together`."""
    return put_together(_numbered(feeds, where), graph, where, sample_axis)


def _numbered(feeds: Iterable[object], where: str) -> Iterator[tuple[str, Mapping[str, SampleArray]]]:
    for number, feed in enumerate(feeds, 1):
        at = f"{where}, feed {number}"
        if not isinstance(feed, Mapping):
            kind = type(feed).__name__
            raise CalibrationError(f"{at}: is of type {kind}, not a mapping from the model's inputs to arrays")
        yield at, as_arrays(feed, at)


def put_together(
    feeds: Iterable[tuple[str, Mapping[str, SampleArray]]], graph: Graph, where: str, sample_axis: Mapping[str, int]
) -> Mapping[str, SampleArray]:
    """Join the samples of feeds, each of which fits the model; large ones go to a temporary file.

    Parameters
    ----------
    feeds : iterable of (str, mapping of arrays)
        Where each comes from, for messages, and its arrays.
    graph : Graph
        Of the model.
    where : str
        Where all come from.
    sample_axis : mapping of str to int
        What the user says of axes.

    Raises
    ------
    CalibrationError
        If a feed does not fit the model or the feeds before it, or none comes.
    """
    inputs = {info.name for info in graph.inputs}
    parts = _Parts()
    for at, feed in feeds:
        arrays = dict(feed)
        if LABELS in arrays and LABELS not in inputs:
            arrays[LABELS] = np.atleast_1d(np.asarray(arrays[LABELS]))
        parts.add(arrays, check_calibration(arrays, graph, at, sample_axis), at)
    if not parts.samples:
        raise CalibrationError(f"{where}: no feed came; what can be read only once may have been read before")
    whole = parts.whole.keys()
    arrays = parts.joined()
    if check_calibration(arrays, graph, where, sample_axis).whole != whole:
        raise CalibrationError(f"{where}: {', '.join(map(repr, whole))}: as long as there are samples, but no samples")
    return arrays
