"""Samples as users have them: a file, arrays by name, or feeds one after the other, which are put together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from onnxmi.data.calibration import LABELS, Calibration, check_calibration
from onnxmi.data.npz import read_archive
from onnxmi.errors import CalibrationError, stage
from onnxmi.model import Graph, Model
from onnxmi.typing import Array

_WHERE = "calibration"  # what messages call samples that come from no file


class FeedReader(Protocol):
    """What onnxruntime calls a CalibrationDataReader."""

    def get_next(self) -> Mapping[str, Any] | None:
        """Return the next feed, or None at the end."""
        ...


Feed = Mapping[str, ArrayLike]
CalibrationLike = Calibration | Feed | Iterable[Feed] | FeedReader | str | os.PathLike[str]
"""Everything that samples may come as."""


@stage("samples")
def as_calibration(source: CalibrationLike, model: Model) -> Calibration:
    """Return checked samples.

    Parameters
    ----------
    source : path, mapping of arrays, array, iterable of feeds, reader of feeds, or Calibration
        A path is that of an `.npz` file. An array alone is that of a model's only input. Each feed is a mapping of
        arrays with one or more samples on their first axis.
    model : Model
        Whose inputs they are.

    Raises
    ------
    CalibrationError
        One line saying what is wrong with which array.
    """
    if isinstance(source, Calibration):
        return source
    arrays, where = read_arrays(source, model.graph)
    return check_calibration(arrays, model.graph, where)


def read_arrays(source: CalibrationLike, graph: Graph) -> tuple[Mapping[str, Array], str]:
    """Return all samples as arrays by name, and where they come from, for messages; see `as_calibration`."""
    if isinstance(source, str | os.PathLike):
        path = Path(os.fsdecode(source))
        return read_archive(path, CalibrationError), str(path)
    return _arrays_in_memory(source, graph), _WHERE


def _arrays_in_memory(source: object, graph: Graph) -> Mapping[str, Array]:
    if isinstance(source, Calibration):
        return {**source.arrays, **({} if source.labels is None else {LABELS: source.labels})}
    if isinstance(source, Mapping):
        return _as_arrays(source, _WHERE)
    if hasattr(source, "get_next"):
        return _put_together(iter(source.get_next, None), graph)
    if hasattr(source, "__array__"):
        return _only_input(source, graph)
    if isinstance(source, Iterable):
        return _put_together(source, graph)
    raise CalibrationError(
        f"{_WHERE}: expected the path of an .npz file, a mapping of arrays, or feeds one after the other, not"
        f" {type(source).__name__}"
    )


def _as_arrays(arrays: Mapping[Any, Any], where: str) -> dict[str, Array]:
    return {name: _as_array(value, name, where) for name, value in arrays.items()}


def _as_array(value: object, name: object, where: str) -> Array:
    try:
        return np.asarray(value)
    except Exception as error:  # of numpy for ragged lists, of torch for tensors on a GPU, of whatever else comes
        why = " ".join(str(error).split())[:200]
        raise CalibrationError(f"{where}: {name!r} cannot be read as an array: {why}") from error


def _only_input(source: object, graph: Graph) -> Mapping[str, Array]:
    names = [info.name for info in graph.inputs]
    if len(names) != 1:
        raise CalibrationError(
            f"{_WHERE}: an array alone does not say which input it is; give a mapping of {', '.join(map(repr, names))}"
        )
    return {names[0]: _as_array(source, names[0], _WHERE)}


# -- feeds ------------------------------------------------------------------------------------------------------------


@dataclass
class _Parts:
    """The arrays of all feeds so far.

    Attributes
    ----------
    whole : dict of str to array
        Inputs without samples, which are the same in all feeds.
    samples : dict of str to list of array
        Inputs with the samples on the first axis, one array a feed; labels, too.
    """

    whole: dict[str, Array] = field(default_factory=dict)
    samples: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, arrays: Mapping[str, Array], whole: Iterable[str], where: str) -> None:
        """Take the arrays of a feed that fits the model; refuse what does not go with the feeds before it."""
        by_name = {name: arrays[name] for name in whole}
        if not self.samples:
            self.whole = by_name
            self.samples = {name: [] for name in arrays if name not in by_name}
        if by_name.keys() != self.whole.keys() or arrays.keys() - by_name.keys() != self.samples.keys():
            raise CalibrationError(f"{where}: has other arrays with samples in them than the feeds before it")
        for name, array in by_name.items():
            if not np.array_equal(array, self.whole[name]):
                raise CalibrationError(
                    f"{where}: {name!r} has no axis of samples and differs from the feeds before it; all samples have"
                    " to share it"
                )
        for name, parts in self.samples.items():
            self._add_samples(name, parts, arrays[name], where)

    def _add_samples(self, name: str, parts: list[Array], array: Array, where: str) -> None:
        if parts and parts[0].shape[1:] != array.shape[1:]:
            raise CalibrationError(
                f"{where}: {name!r} has shape {array.shape}, in the feeds before it {parts[0].shape}; pad all samples"
                " to one length, with a mask if the model has one, or give those of one length"
            )
        parts.append(array)

    def joined(self) -> dict[str, Array]:
        """Return the arrays of all samples; the parts are given up one by one, as they may be large."""
        names = list(self.samples)
        return {**self.whole, **{name: np.concatenate(self.samples.pop(name)) for name in names}}


def _put_together(feeds: Iterable[object], graph: Graph) -> Mapping[str, Array]:
    inputs = {info.name for info in graph.inputs}
    parts = _Parts()
    number = 0
    for number, feed in enumerate(feeds, 1):
        where = f"{_WHERE}, feed {number}"
        if not isinstance(feed, Mapping):
            kind = type(feed).__name__
            raise CalibrationError(f"{where}: is of type {kind}, not a mapping from the model's inputs to arrays")
        arrays = _as_arrays(feed, where)
        if LABELS in arrays and LABELS not in inputs:
            arrays[LABELS] = np.atleast_1d(arrays[LABELS])
        parts.add(arrays, check_calibration(arrays, graph, where).whole, where)
    if not number:
        raise CalibrationError(f"{_WHERE}: no feed came; what can be read only once may have been read before")
    whole = parts.whole.keys()
    arrays = parts.joined()
    if check_calibration(arrays, graph, _WHERE).whole != whole:
        raise CalibrationError(f"{_WHERE}: {', '.join(map(repr, whole))}: as long as there are samples, but no samples")
    return arrays
