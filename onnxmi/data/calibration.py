"""The calibration file: sample inputs, checked against the model's interface before any work starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.data.npz import open_archive
from onnxmi.data.padding import Padding
from onnxmi.data.sample_axes import find_sample_axes, shown_dims
from onnxmi.data.sample_count import count_samples, fixed_batch
from onnxmi.data.shards import Shard, divided
from onnxmi.data.stored import BLOCK, LARGE, ConvertedArray, LazyArray, SampleArray, blocks_of, take_samples
from onnxmi.data.streams import STATES, read_states, stored_states
from onnxmi.errors import CalibrationError, stage
from onnxmi.model import Graph, TensorInfo
from onnxmi.typing import Array, Ints

LABELS = "labels"
RANDOM = "onnxmi.random"  # an array of this name marks samples that are random numbers
SEQUENCES = "onnxmi.sequences"  # one of this name has a number for each sample: those of one are split together
RESERVED = (LABELS, RANDOM, SEQUENCES, STATES)
RANDOM_NOTE = "calibrated on random data: what the outputs lose on real data is not known"
MOST_PADDED = 1 << 30  # bytes of a batch that is filled up by repetition


@dataclass(frozen=True, eq=False)
class Calibration:
    """Sample inputs.

    Attributes
    ----------
    arrays : mapping of graph input name to array
        Sample-wise arrays have `count` samples on their first axis, or on that of `axes`; the others are fed whole.
        Large ones are `onnxmi.data.stored.LazyArray`: they stay on the disk, and numpy.asarray reads them.
    whole : frozenset of str
        Inputs that are fed whole.
    labels : (count,) int64 or None
        One class a sample.
    count : int
        Number of samples.
    step : int or None
        The fixed batch size of the graph; None where the batch is dynamic.
    notes : tuple of str
        Casts and other things done that the user should know.
    padding : Padding or None
        What may be left out of the batches; see `onnxmi.graph.padding_mask`.
    axes : mapping of graph input name to int
        Where the samples are, if not on the first axis.
    origin : tuple of str
        The first of the notes: how the samples were read, whatever the model is.
    random : bool
        Whether they are random numbers, for a first try.
    said_axes : frozenset of str
        Inputs whose axis of samples the user says.
    sequences : (count,) int64 or None
        Samples of one number belong together, and are never split.
    states : mapping of str to str
        Inputs that are states -> the outputs they come out of, where samples of one number follow each other.
    shard : Shard or None
        Which part of their source they are, where the other parts are measured apart.
    held : object
        What has to be kept as long as arrays are read, such as the folder that files were fetched into.
    captions : tuple of str
        What people know each sample by: its text, or the name of its file. Empty where there is no such thing.
    """

    arrays: Mapping[str, SampleArray]
    whole: frozenset[str]
    labels: Array | None
    count: int
    step: int | None
    notes: tuple[str, ...] = ()
    padding: Padding | None = None
    axes: Mapping[str, int] = field(default_factory=dict)
    origin: tuple[str, ...] = ()
    random: bool = False
    said_axes: frozenset[str] = frozenset()
    sequences: Ints | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    shard: Shard | None = None
    held: object = None
    captions: tuple[str, ...] = ()

    @property
    def shards(self) -> int:
        """How many parts of the source are measured apart; each draws its share of what is drawn of all."""
        return 1 if self.shard is None else self.shard.count

    @cached_property
    def split_prints(self) -> NDArray[np.uint64]:
        """(count,) what samples are split by: their fingerprints, or that of the first of what belongs together."""
        if self.sequences is None:
            return self.fingerprints
        _, first, numbers = np.unique(self.sequences, return_index=True, return_inverse=True)
        return self.fingerprints[first[numbers]]

    @cached_property
    def fingerprints(self) -> NDArray[np.uint64]:
        """(count,) a hash of each sample's inputs: equal samples have equal ones, in whatever file they are."""
        names = sorted(self.arrays.keys() - self.whole)
        prints: list[int] = []
        for start in range(0, self.count, step := max(1, BLOCK // max(self.sample_bytes, 1))):
            samples = np.arange(start, min(start + step, self.count))
            block = {name: self.samples_of(name, samples) for name in names}
            prints.extend(
                _fingerprint(block[name].take(place, self.axis(name)) for name in names)
                for place in range(len(samples))
            )
        return np.array(prints, dtype=np.uint64)

    @property
    def sample_bytes(self) -> int:
        """Bytes that the inputs of one sample take."""
        return sum(array.nbytes for name, array in self.arrays.items() if name not in self.whole) // self.count

    def axis(self, name: str) -> int:
        """Return the axis of samples of an input that is not fed whole."""
        return self.axes.get(name, 0)

    def samples_of(self, name: str, samples: Ints) -> Array:
        """Return some samples of an input, in the model's layout; all of an input that is fed whole."""
        array = self.arrays[name]
        return np.asarray(array) if name in self.whole else take_samples(array, samples, self.axis(name))

    def feed(self, samples: Ints) -> dict[str, Array]:
        """Inputs for the given samples."""
        return {name: self.samples_of(name, samples) for name in self.arrays}

    def fed(self, feeds: Mapping[str, Array]) -> int:
        """Return how many samples are in the inputs of a run."""
        return next((array.shape[self.axis(name)] for name, array in feeds.items() if name not in self.whole), 1)

    def one_run(self, samples: Ints, most: int = 1) -> dict[str, Array]:
        """Inputs for a small run: at most `most` of the samples, or a full batch where the graph fixes its size."""
        return self.feed(samples[:most] if self.step is None else np.resize(samples, self.step))

    def batches(self, samples: Ints, size: int) -> Iterator[tuple[Ints, BatchFeeds]]:
        """Yield (samples, inputs) pairs; a graph with a fixed batch gets full ones, the last padded by repetition.

        The yielded samples may be fewer than the inputs' first size then: only the first ones count.
        """
        step = self.step or size
        for start in range(0, len(samples), step):
            chosen = samples[start : start + step]
            padded = chosen if self.step is None else np.resize(chosen, step)
            yield chosen, BatchFeeds(self, padded)

    def packed(self, samples: Ints, size: int) -> Iterator[tuple[Ints, BatchFeeds]]:
        """Yield batches as `batches` does, where padding is known the shortest samples first and without it."""
        if self.padding is None:
            yield from self.batches(samples, size)
            return
        for chosen, feeds in self.batches(self.padding.shortest_first(samples), size):
            yield chosen, BatchFeeds(self, feeds.samples, self.padding.longest(chosen))


@dataclass(frozen=True, eq=False)
class BatchFeeds(Mapping[str, Array]):
    """The inputs of one batch, read when they are asked for: many batches can be held without their samples.

    Attributes
    ----------
    calibration : Calibration
        Holds the samples.
    samples : (n,) int64
        Which of them.
    longest : int or None
        Positions to which padded inputs are trimmed; None to leave them whole.
    """

    calibration: Calibration
    samples: Ints
    longest: int | None = None

    def __getitem__(self, name: str) -> Array:
        array, padding = self.calibration.samples_of(name, self.samples), self.calibration.padding
        return array if padding is None or self.longest is None else padding.trim(name, array, self.longest)

    def __iter__(self) -> Iterator[str]:
        return iter(self.calibration.arrays)

    def __len__(self) -> int:
        return len(self.calibration.arrays)


def arrays_of(samples: Calibration) -> dict[str, SampleArray]:
    """Return everything that a file of samples has: inputs, labels, and the mark of random numbers."""
    labels = {} if samples.labels is None else {LABELS: samples.labels}
    random = {RANDOM: np.ones((), np.bool_)} if samples.random else {}
    sequences = {} if samples.sequences is None else {SEQUENCES: samples.sequences}
    states = {STATES: stored_states(samples.states)} if samples.states else {}
    return {**samples.arrays, **labels, **random, **sequences, **states}


def _fingerprint(arrays: Iterable[Any]) -> int:
    digest = blake2b(digest_size=8)
    for array in arrays:
        value = np.asarray(array)
        digest.update(repr(value.tolist()).encode() if value.dtype.kind == "O" else value.tobytes())
    return int.from_bytes(digest.digest(), "little")


@stage("samples")
def load_calibration(path: str | os.PathLike[str], graph: Graph) -> Calibration:
    """Read an `.npz` file and check it against the graph's inputs.

    Raises
    ------
    CalibrationError
        One line saying what is wrong with which array.
    """
    return check_calibration(open_archive(Path(path)), graph, str(path))


def check_calibration(
    arrays: Mapping[str, SampleArray],
    graph: Graph,
    where: str = "calibration",
    sample_axes: Mapping[str, int] | None = None,
    shard: Shard | None = None,
) -> Calibration:
    """Check arrays against the graph's inputs; see `load_calibration`.

    Parameters
    ----------
    arrays : mapping of str to array
        By the names of the graph's inputs, and `labels` if there are any.
    graph : Graph
        Of the model.
    where : str
        Where the arrays come from, for messages.
    sample_axes : mapping of str to int, optional
        Which axis of an input holds the samples, where the model does not say it and it is not the first.
    shard : Shard, optional
        Check this part of the samples, and read no other.
    """
    inputs = {info.name: info for info in graph.inputs}
    _check_names(arrays, inputs, where)
    for name, info in inputs.items():
        _check_rank(arrays[name], info, where)
    # By the shapes of all samples: those of a shard's few could mean something else.
    by_input = {name: arrays[name] for name in inputs}
    axes = find_sample_axes(by_input, inputs, sample_axes or {}, where)
    count, whole = count_samples(by_input, inputs, axes, arrays.get(LABELS), where)
    if shard is not None:
        arrays, count = _shard_of(
            arrays, {name: axis for name, axis in axes.items() if name not in whole}, count, shard, where
        )
    notes = [RANDOM_NOTE] if RANDOM in arrays else []
    fitted = {name: _fit_dtype(arrays[name], info, where, notes) for name, info in inputs.items()}
    for name in inputs:
        _check_values(fitted[name], name, where)
    step = fixed_batch(inputs, axes, whole)
    _check_padding(fitted, whole, count, step, where)
    notes += [
        f"{name}: the same for all samples (its first size is {fitted[name].shape[0]}, not {count})"
        for name in sorted(whole)
        if fitted[name].ndim
    ]
    for name, info in inputs.items():
        _check_dims(fitted[name], info, None if name in whole else axes[name], where)
    labels = None if LABELS in inputs else _labels(arrays.get(LABELS), count, where)
    axes = {name: axis for name, axis in axes.items() if axis and name not in whole}
    notes += [f"{name}: the samples are on axis {axis}" for name, axis in axes.items()]
    return Calibration(
        fitted,
        frozenset(whole),
        labels,
        count,
        step,
        tuple(notes),
        axes=axes,
        random=RANDOM in arrays,
        sequences=_sequences(arrays.get(SEQUENCES), count, where),
        states=read_states(arrays.get(STATES), inputs, where),
        said_axes=frozenset(sample_axes or ()),
    )


def _shard_of(
    arrays: Mapping[str, SampleArray], axes: Mapping[str, int], count: int, shard: Shard, where: str
) -> tuple[dict[str, SampleArray], int]:
    """Return one shard's arrays, and how many samples it has."""
    if SEQUENCES in arrays:
        raise CalibrationError(f"{where}: samples that belong together cannot be divided: give as many files as shards")
    own = shard.among(count)
    if own.start == own.stop:
        raise CalibrationError(f"{where}: shard {shard} has no samples: there are {count:,} in all")
    return divided(arrays, {LABELS: 0, **axes}, count, shard), own.stop - own.start


def _check_names(arrays: Mapping[str, SampleArray], inputs: Mapping[str, TensorInfo], where: str) -> None:
    missing = [name for name in inputs if name not in arrays]
    extra = [name for name in arrays if name not in inputs and name not in RESERVED]
    if missing:
        raise CalibrationError(f"{where}: no array named {_quoted(missing)}, but {_quoted(arrays) or 'no arrays'}")
    if extra:
        raise CalibrationError(f"{where}: array {_quoted(extra)} is not an input of the model ({_quoted(inputs)})")


def _quoted(names: Iterator[str] | Mapping[str, Any] | list[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _fit_dtype(array: SampleArray, info: TensorInfo, where: str, notes: list[str]) -> SampleArray:
    """Cast where no value can change its meaning; float64 to float32 counts as safe and is said."""
    expected = info.dtype
    if array.dtype.kind == "O" and (expected is None or expected.kind != "O"):
        raise CalibrationError(f"{where}: array {info.name!r} holds Python objects")
    if expected is None or array.dtype == expected or expected.kind == "O":
        return array
    kinds, safe = (array.dtype.kind, expected.kind), np.can_cast(array.dtype, expected, "safe")
    if not (safe or kinds == ("f", "f") or set(kinds) <= set("iub")):
        raise CalibrationError(f"{where}: array {info.name!r} has dtype {array.dtype}, the model expects {expected}")
    if not safe and not all(_fits(block, expected) for block in blocks_of(array)):
        raise CalibrationError(f"{where}: array {info.name!r} has values that do not fit {expected}")
    if array.dtype.newbyteorder("=") != expected:
        notes.append(f"{info.name}: cast from {array.dtype} to {expected}")
    return _cast(array, expected)


def _fits(array: Array, dtype: np.dtype[Any]) -> bool:
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind in "iub":
        return bool(np.array_equal(cast, array))
    return bool(np.array_equal(np.isfinite(cast), np.isfinite(array)))


def _cast(array: SampleArray, dtype: np.dtype[Any]) -> SampleArray:
    """Cast an array; a large one batch by batch, when it is read."""
    if isinstance(array, LazyArray) or array.size * dtype.itemsize > LARGE:
        return ConvertedArray(array, lambda part: part.astype(dtype), array.shape, dtype)
    return array.astype(dtype)


def _check_values(array: SampleArray, name: str, where: str) -> None:
    if array.dtype.kind != "f" or (isinstance(array, ConvertedArray) and array.source.dtype.kind in "iub"):
        return
    bad = sum(int(block.size - np.count_nonzero(np.isfinite(block))) for block in blocks_of(array))
    if bad:
        raise CalibrationError(f"{where}: array {name!r} has {bad} values that are NaN or infinite")


def _check_rank(array: SampleArray, info: TensorInfo, where: str) -> None:
    if info.dims is not None and array.ndim != len(info.dims):
        raise CalibrationError(
            f"{where}: array {info.name!r} has shape {array.shape},"
            f" the model expects {len(info.dims)} axes {shown_dims(info)}"
        )


def _check_padding(
    arrays: Mapping[str, SampleArray], whole: set[str], count: int, step: int | None, where: str
) -> None:
    """A graph with a fixed batch gets full ones, whatever it takes to fill them."""
    size = sum(array.nbytes for name, array in arrays.items() if name not in whole) // count
    if step is not None and step > count and step * size > MOST_PADDED:
        raise CalibrationError(
            f"{where}: has {count} samples; the model expects batches of {step:,}, too many to fill up"
        )


def _check_dims(array: SampleArray, info: TensorInfo, samples: int | None, where: str) -> None:
    for axis, dim in enumerate(info.dims or ()):
        if axis == samples:
            continue
        if isinstance(dim, int) and dim > 0 and array.shape[axis] != dim:
            raise CalibrationError(
                f"{where}: array {info.name!r} has shape {array.shape}, the model expects {shown_dims(info)}"
            )


def _sequences(numbers: SampleArray | None, count: int, where: str) -> Ints | None:
    if numbers is None:
        return None
    if numbers.dtype.kind not in "iu" or numbers.shape != (count,):
        raise CalibrationError(f"{where}: {SEQUENCES!r} has shape {numbers.shape}; expected a number for each sample")
    return np.asarray(numbers, dtype=np.int64)


def _labels(labels: SampleArray | None, count: int, where: str) -> Array | None:
    if labels is None:
        return None
    if labels.dtype.kind not in "iub" or labels.shape[:1] != (count,) or labels.size != count:
        raise CalibrationError(
            f"{where}: labels have shape {labels.shape} and dtype {labels.dtype}; expected one class for each of "
            f"{count} samples"
        )
    return np.asarray(labels).reshape(count).astype(np.int64)
