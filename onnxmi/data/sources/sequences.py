"""Sequences of samples: the states of a model are run on from sample to sample, so that every sample has its real one.

The original is run once over all samples, and the states that it comes to become inputs like any other. So whatever
measures, repairs or judges sees states as they are in use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxmi.data.calibration import SEQUENCES, Calibration, check_calibration
from onnxmi.data.npz import open_array
from onnxmi.data.sources.growing import DEPTH, Cache, growing_axis, with_caches
from onnxmi.data.sources.read import ReadSamples
from onnxmi.data.stored import SampleArray, take_samples
from onnxmi.data.streams import STATES, stored_states
from onnxmi.errors import CalibrationError, ModelError, UsageError
from onnxmi.model import Model, TensorInfo
from onnxmi.model.batch_axis import batch_axes, is_free
from onnxmi.runtime.probe import Probe
from onnxmi.runtime.session import Session, as_numpy, open_session
from onnxmi.runtime.states import find_states
from onnxmi.runtime.synthetic import attempts
from onnxmi.typing import Array, Ints, Samples, Shape

ALL = "*"  # all samples are one sequence
STRETCH = 16  # samples that follow each other and are split together
TOGETHER = 64  # sequences that are run at once


def with_states(read: ReadSamples, model: Model, sequences: str, given: Mapping[str, str]) -> ReadSamples:
    """Return the samples with the states that the model comes to.

    Parameters
    ----------
    read : ReadSamples
        Samples, one after the other. A state among them is where each sequence starts; without one, it starts at 0.
    model : Model
        Whose states they are.
    sequences : str
        `ALL` (of each file, where the samples are windows of several), the path of an `.npy` file with a number for
        each sample, or the name of such an array in the samples.
    given : mapping of str to str
        Output -> the input that it is fed back as; those that names tell where it is empty.

    Raises
    ------
    UsageError
        If no output is recognized as a state, or what is given does not exist.
    CalibrationError
        If the states change their shape, or there is not one number for each sample.
    """
    arrays, ids = _ids(read.arrays, sequences, read.where)
    session = open_session(model.proto)
    shapes = _state_shapes(model, session, given)
    started = {**arrays, **_starts(arrays, shapes, model, read)}
    data = check_calibration(started, model.graph, read.where, read.sample_axis)
    ids = np.zeros(data.count, dtype=np.int64) if ids is None else ids
    if ids.shape != (data.count,):
        raise CalibrationError(f"{read.where}: {len(ids)} numbers of sequences for {data.count} samples")
    members = [np.flatnonzero(ids == number) for number in dict.fromkeys(ids.tolist())]
    caches = {name: cache for name, state in shapes.items() if (cache := state.cache) is not None}
    if caches:
        return _grown(replace(read, arrays=arrays), model, session, data, members, caches)
    states = _Carried(session, data, shapes).through(members)
    pairs = ", ".join(f"{state.output} -> {name}" for name, state in shapes.items())
    notes = (
        f"states were run on through {data.count:,} samples in {_sequences(len(members))}: {pairs}",
        f"models are judged with their own states, over stretches of up to {STRETCH} samples",
    )
    outputs = {name: state.output for name, state in shapes.items()}
    together = {SEQUENCES: _stretches(members, data.count), STATES: stored_states(outputs)}
    return replace(read, arrays={**arrays, **states, **together}, notes=(*read.notes, *notes))


def _grown(
    read: ReadSamples,
    model: Model,
    session: Session,
    data: Calibration,
    members: Sequence[Samples],
    caches: Mapping[str, Cache],
) -> ReadSamples:
    """Return the samples that have enough others before them, with the caches that these leave."""
    grown, kept = with_caches(session, data, read.arrays, members, caches, model.graph.inputs)
    places = [np.flatnonzero(np.isin(kept, own)) for own in members]
    note = (
        f"caches grow: each of {len(kept):,} samples meets the cache of the {DEPTH} before it, of"
        f" {data.count:,} samples in {_sequences(len(members))}"
    )
    together = {SEQUENCES: _stretches([own for own in places if len(own)], len(kept))}
    return replace(read, arrays={**grown, **together}, notes=(*read.notes, note))


def _stretches(members: Sequence[Samples], count: int) -> Ints:
    """Return a number for each sample: that of its stretch of its sequence."""
    numbers, start = np.zeros(count, dtype=np.int64), 0
    for own in members:
        numbers[own] = start + np.arange(len(own)) // STRETCH
        start = int(numbers[own].max()) + 1
    return numbers


def _sequences(count: int) -> str:
    return "1 sequence" if count == 1 else f"{count:,} sequences"


def _ids(arrays: Mapping[str, SampleArray], sequences: str, where: str) -> tuple[dict[str, SampleArray], Ints | None]:
    """Return the other arrays, and which sequence each sample is of; None where all are one."""
    rest = dict(arrays)
    own = rest.pop(SEQUENCES, None)  # what the files say
    if sequences == ALL:
        return rest, None if own is None else np.asarray(own, dtype=np.int64)
    if sequences in rest:
        ids = rest.pop(sequences)
    elif Path(sequences).suffix == ".npy":
        ids = open_array(Path(sequences))
    else:
        raise UsageError(f"--sequence {sequences}: neither an .npy file nor an array in {where}")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise CalibrationError(f"{where}: {sequences}: expected a whole number for each sample")
    return rest, np.asarray(ids, dtype=np.int64)


@dataclass(frozen=True)
class _State:
    """A state: the output it comes out of, its axis of samples, its shape for one sample, and the axis that grows."""

    output: str
    axis: int
    shape: Shape
    dtype: np.dtype[np.generic]
    grows: int | None = None

    @property
    def cache(self) -> Cache | None:
        """The state as one that grows; None where it keeps its shape."""
        if self.grows is None or self.grows == self.axis:
            return None
        empty = tuple(0 if axis == self.grows else size for axis, size in enumerate(self.shape))
        return Cache(self.output, self.axis, self.grows, empty, self.dtype)


def _state_shapes(model: Model, session: Session, given: Mapping[str, str]) -> dict[str, _State]:
    """Return the states by the inputs that they are fed as."""
    inputs = {info.name: info for info in model.graph.inputs}
    unknown = [name for pair in given.items() for name in pair if name not in inputs and name not in session.outputs]
    if unknown:
        raise UsageError(f"--state: the model has no input or output {unknown[0]!r}")
    seen = _first_run(model, session)
    pairs = dict(given) or {output: name for output, name in find_states(model.graph, seen).items() if name}
    if not pairs:
        raise UsageError("--sequence: no output is recognized as a state; --state OUTPUT=INPUT says which is one")
    return {name: _state_of(output, inputs[name], model, seen) for output, name in pairs.items()}


def _first_run(model: Model, session: Session) -> Probe:
    """Run the model on the first made-up inputs that it takes."""
    for feeds in attempts(model.graph.inputs):
        try:
            made = as_numpy(session.run(feeds))
        except ModelError:
            continue
        both = {**feeds, **made}
        return Probe({n: v.shape for n, v in both.items()}, {}, {n: v.dtype for n, v in both.items()}, feeds)
    raise UsageError("--sequence: the model runs on no made-up inputs, which are needed to find its states")


def _state_of(output: str, info: TensorInfo, model: Model, seen: Probe) -> _State:
    """Find where a state has its samples: on the model's batch, or, where that is fixed, on an axis of its size."""
    dims, axes = info.dims or (), batch_axes(model.graph.inputs)
    batch = next((other.dims[0] for other in model.graph.inputs if other.dims), None)
    fixed = [axis for axis, dim in enumerate(dims) if not is_free(dim) and dim == batch]
    axis = axes.get(info.name, fixed[0] if fixed else None)
    if axis is None:
        raise UsageError(f"--sequence: the state {info.name!r} has no axis of samples; --sample-axis says which it is")
    shape = seen.shapes[info.name]
    grows = growing_axis(shape, seen.shapes[output]) if len(seen.shapes[output]) == len(shape) else None
    return _State(output, axis, (*shape[:axis], 1, *shape[axis + 1 :]), seen.dtypes[info.name], grows)


def _starts(
    arrays: Mapping[str, SampleArray], states: Mapping[str, _State], model: Model, read: ReadSamples
) -> dict[str, Array]:
    """Return where sequences start, for every sample: what is given for each, or for all, or 0."""
    axes = {**batch_axes(model.graph.inputs), **read.sample_axis}
    others = [info.name for info in model.graph.inputs if info.name not in states and info.name in arrays]
    sizes = [arrays[name].shape[axes.get(name, 0)] for name in others if arrays[name].ndim]
    if not sizes:
        raise CalibrationError(f"{read.where}: has no input besides the states")
    starts: dict[str, Array] = {}
    for name, state in states.items():
        given = np.asarray(arrays.get(name, np.zeros(state.shape, state.dtype)))
        whole = given.ndim == len(state.shape) and given.shape[state.axis] == 1
        starts[name] = np.repeat(given, sizes[0], state.axis) if whole else given
    return starts


class _Carried:
    """States on their way through sequences of samples.

    Parameters
    ----------
    session : Session
        Of the original.
    data : Calibration
        All samples, with where sequences start.
    states : mapping of str to _State
        By the inputs that they are fed as.
    """

    def __init__(self, session: Session, data: Calibration, states: Mapping[str, _State]) -> None:
        self._session, self._data, self._states = session, data, states
        self._arrays = {name: np.array(data.arrays[name]) for name in states}

    def through(self, sequences: Sequence[Samples]) -> dict[str, Array]:
        """Run all sequences, some at once, and return the states that every sample meets."""
        together = TOGETHER if self._data.step is None else self._data.step
        for start in range(0, len(sequences), together):
            self._run(sequences[start : start + together])
        return self._arrays

    def _run(self, sequences: Sequence[Samples]) -> None:
        for place in range(max(map(len, sequences)) - 1):
            going = [sequence for sequence in sequences if len(sequence) > place + 1]
            now, then = (np.array([sequence[at] for sequence in going]) for at in (place, place + 1))
            fed = now if self._data.step is None else np.resize(now, self._data.step)
            met = {name: take_samples(array, fed, self._states[name].axis) for name, array in self._arrays.items()}
            made = as_numpy(self._session.run({**self._data.feed(fed), **met}))
            for name, state in self._states.items():
                self._put(name, state, then, made.get(state.output), met[name].shape)

    def _put(self, name: str, state: _State, then: Samples, made: Array | None, expected: Shape) -> None:
        if made is None or made.shape != expected:
            got = "no array" if made is None else str(made.shape)
            raise CalibrationError(
                f"the state {name!r} cannot be run on: {state.output!r} is {got}, not {expected}; a cache that grows"
                " has no one shape for all samples"
            )
        np.moveaxis(self._arrays[name], state.axis, 0)[then] = np.moveaxis(made, state.axis, 0)[: len(then)]
