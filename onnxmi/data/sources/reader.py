"""The one reader of samples, whatever they come as: a path, arrays by name, or feeds one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
from numpy.typing import ArrayLike

from onnxmi.data.calibration import Calibration, arrays_of
from onnxmi.data.shards import Shard
from onnxmi.data.sources.feeds import as_array, as_arrays, feeds_together
from onnxmi.data.sources.files import address_of
from onnxmi.data.sources.formats import read_path
from onnxmi.data.sources.options import SourceFields, SourceOptions, source_options
from onnxmi.data.sources.read import ReadSamples
from onnxmi.data.sources.sequences import with_states
from onnxmi.data.stored import SampleArray
from onnxmi.errors import CalibrationError, UsageError, stage
from onnxmi.model import Graph, Model, TensorInfo
from onnxmi.typing import Array

_BY_THE_MODEL = SourceOptions()
_WHERE = "calibration"  # what messages call samples that come from no file


class FeedReader(Protocol):
    """What onnxruntime calls a CalibrationDataReader."""

    def get_next(self) -> Mapping[str, Any] | None:
        """Return the next feed, or None at the end."""
        ...


Feed = Mapping[str, ArrayLike]


@dataclass(frozen=True, eq=False)
class SampleSource:
    """Samples, and how to read them.

    Attributes
    ----------
    samples : path, mapping of arrays, array, iterable of feeds or reader of feeds
        What to read.
    options : SourceOptions
        How.
    """

    samples: Feed | Iterable[Feed] | FeedReader | str | os.PathLike[str]
    options: SourceOptions


CalibrationLike = Calibration | SampleSource | Feed | Iterable[Feed] | FeedReader | str | os.PathLike[str]
"""Everything that samples may come as."""


def source(
    samples: Feed | Iterable[Feed] | FeedReader | str | os.PathLike[str], **fields: Unpack[SourceFields]
) -> SampleSource:
    """Say how samples are read, for any function that takes some.

    Parameters
    ----------
    samples : path, mapping of arrays, iterable of feeds or reader of feeds
        A file or a folder: `.npz` or `.npy` arrays, images, texts or tables (`.txt`, `.csv`, `.jsonl`, `.parquet`), or
        sounds (`.wav`); also at an address that fsspec opens, such as `s3://bucket/folder` (extra `remote`). Or what is
        in memory.
    **fields
        Fields of `onnxmi.data.sources.SourceOptions`, as texts or values: `image="224x224"`, `mean=(0.5, 0.5, 0.5)`,
        `tokenizer="tokenizer.json"`, `sample_axis={"state": 1}`.

    Raises
    ------
    UsageError
        If there is no such field, or a value cannot be read.

    Examples
    --------
    >>> digits = onnxmi.source("digits-mlp.calib.npz", sample_axis="image=0")
    >>> onnxmi.prune("digits-mlp.onnx", digits, keep=0.5, threads=1, latency=False)
    <onnxmi.Result: 2 layers cut, 85,002 -> 26,122 parameters, 340.8 kB -> 105.3 kB>
    """
    return SampleSource(samples, source_options(fields))


@stage("samples")
def as_calibration(
    source: CalibrationLike, model: Model, options: SourceOptions = _BY_THE_MODEL, shard: Shard | None = None
) -> Calibration:
    """Return checked samples.

    Parameters
    ----------
    source : path, mapping of arrays, array, iterable of feeds, reader of feeds, or Calibration
        A path is that of a file or a folder in one of `onnxmi.data.sources.formats`. An array alone is that of a
        model's only input. Each feed is a mapping of arrays with one or more samples.
    model : Model
        Whose inputs they are.
    options : SourceOptions
        How to read them.
    shard : Shard, optional
        Read this part of them alone.

    Raises
    ------
    CalibrationError
        One line saying what is wrong with which array.
    """
    if isinstance(source, Calibration) and shard is None:
        return source
    return read_samples(source, model, options, shard).check(model.graph)


def read_samples(
    source: CalibrationLike, model: Model, options: SourceOptions = _BY_THE_MODEL, shard: Shard | None = None
) -> ReadSamples:
    """Return all samples as arrays by name, with the states of sequences; see `as_calibration`."""
    if isinstance(source, SampleSource):
        return read_samples(source.samples, model, source.options, shard)
    if shard is not None and options.sequences:
        raise UsageError(
            f"--shard {shard}: samples that follow each other cannot be divided; capture and merge file by file instead"
        )
    read = _with_values(_read(source, model.graph, options, shard), model.graph, options.values)
    return with_states(read, model, options.sequences, options.states) if options.sequences else read


def _with_values(read: ReadSamples, graph: Graph, values: Mapping[str, str]) -> ReadSamples:
    """Add inputs that are one number for all samples."""
    inputs = {info.name: info for info in graph.inputs}
    arrays: dict[str, SampleArray] = dict(read.arrays)
    for name, text in values.items():
        if name not in inputs or name in arrays:
            why = "the samples have it" if name in arrays else f"the model has no such input, but {', '.join(inputs)}"
            raise UsageError(f"--value {name}={text}: {why}")
        arrays[name] = _filled(inputs[name], text)
    return replace(read, arrays=arrays)


def _filled(info: TensorInfo, text: str) -> Array:
    shape = tuple(dim for dim in info.dims or () if isinstance(dim, int) and dim > 0)
    if len(shape) < len(info.dims or ()):
        raise UsageError(f"--value {info.name}={text}: the model does not fix the shape of {info.name!r}")
    try:
        number = float(text)
    except ValueError as error:
        raise UsageError(f"--value {info.name}={text}: expected a number") from error
    filled = np.full(shape, number).astype(info.dtype or np.float32)
    if filled.dtype.kind in "iub" and not np.all(filled == number):
        raise UsageError(f"--value {info.name}={text}: does not fit {filled.dtype}")
    return filled


def _read(source: CalibrationLike, graph: Graph, options: SourceOptions, shard: Shard | None) -> ReadSamples:
    if isinstance(source, str | os.PathLike):
        path = Path(os.fsdecode(source))
        read, shard = read_path(path, graph, options, shard)
        where, axes = address_of(path) or str(path), options.sample_axis
        return ReadSamples(
            read.arrays, where, read.notes, axes, shard, read.divided, held=read.held, captions=read.captions
        )
    if isinstance(source, Calibration):
        axes = {name: source.axis(name) for name in (*source.axes, *source.said_axes)}
        return ReadSamples(arrays_of(source), _WHERE, source.origin, axes, shard, captions=source.captions)
    return ReadSamples(_in_memory(source, graph, options), _WHERE, (), options.sample_axis, shard)


def _in_memory(source: object, graph: Graph, options: SourceOptions) -> Mapping[str, SampleArray]:
    if isinstance(source, Mapping):
        return as_arrays(source, _WHERE)
    if hasattr(source, "get_next"):
        return feeds_together(iter(source.get_next, None), graph, _WHERE, options.sample_axis)
    if hasattr(source, "__array__"):
        return _only_input(source, graph)
    if isinstance(source, Iterable):
        return feeds_together(source, graph, _WHERE, options.sample_axis)
    raise CalibrationError(
        f"{_WHERE}: expected the path of a file or folder, a mapping of arrays, or feeds one after the other, not"
        f" {type(source).__name__}"
    )


def _only_input(source: object, graph: Graph) -> Mapping[str, SampleArray]:
    names = [info.name for info in graph.inputs]
    if len(names) != 1:
        raise CalibrationError(
            f"{_WHERE}: an array alone does not say which input it is; give a mapping of {', '.join(map(repr, names))}"
        )
    return {names[0]: as_array(source, names[0], _WHERE)}
