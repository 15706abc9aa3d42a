"""Tables as samples: texts through a tokenizer, or numbers by the names of the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxmi.data.calibration import LABELS
from onnxmi.data.sources.request import Format, Request, SampleData
from onnxmi.data.sources.rows import SUFFIXES, TEXT, Columns, read_rows, rows_of_shard
from onnxmi.data.sources.tokens import Tokenizer, token_arrays
from onnxmi.data.stored import SampleWriter
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model import TensorInfo
from onnxmi.typing import Array

LONGEST_CAPTION = 160  # letters of a text that are kept to know it by


def _read(request: Request) -> SampleData:
    labels = SampleWriter()
    chunks = _labelled(request, labels)
    read = _texts(request, chunks) if request.options.tokenizer is not None else _numbers(request, chunks)
    read = replace(read, divided=request.cuts_files)
    if request.options.label_column is None:
        return read
    return replace(read, arrays={**read.arrays, LABELS: labels.array()})


def _labelled(request: Request, labels: SampleWriter) -> Iterator[Columns]:
    """Yield the chunks of all files without the column of labels, which is put aside."""
    column, count = request.options.label_column, 0
    for chunk in _chunks(request):
        count += 1
        if column is None:
            yield chunk
            continue
        labels.add(_classes(request, chunk, column))
        yield {name: entries for name, entries in chunk.items() if name != column}
    if not count:
        raise CalibrationError(f"{request.source}: has no rows")


def _chunks(request: Request) -> Iterator[Columns]:
    if request.shard is not None and request.cuts_files:
        yield from rows_of_shard(request.paths, request.shard)
        return
    for path in request.paths:
        yield from read_rows(path)


def _classes(request: Request, chunk: Columns, column: str) -> Array:
    try:
        return np.array([int(entry) for entry in _column(request, chunk, column)])
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{request.source}: column {column!r} has labels that are no whole numbers") from error


def _column(request: Request, chunk: Columns, name: str) -> Sequence[Any]:
    if name not in chunk:
        raise CalibrationError(f"{request.source}: has no column {name!r}; it has {', '.join(map(repr, chunk))}")
    return chunk[name]


# -- texts ------------------------------------------------------------------------------------------------------------


def _texts(request: Request, chunks: Iterator[Columns]) -> SampleData:
    tokenizer = Tokenizer.load(request)
    if request.shard is not None and tokenizer.fixed is None:  # padding is part of what a sample is known by
        raise UsageError(
            f"--shard {request.shard}: each shard's texts would be padded to its own longest; write all as arrays,"
            " with `onnxmi calib`, before"
        )
    captions: list[str] = []

    def encoded() -> Iterator[list[Any]]:
        for chunk in chunks:
            columns = _text_columns(request, chunk)
            captions.extend(" / ".join(texts)[:LONGEST_CAPTION] for texts in zip(*columns, strict=True))
            yield tokenizer.encode(columns)

    arrays, notes = token_arrays(request, tokenizer, encoded())
    return SampleData(arrays, notes, captions=tuple(captions))


def _text_columns(request: Request, chunk: Columns) -> list[Sequence[str]]:
    """Return the columns of texts: those that were named, or the only one there is."""
    names = request.options.columns
    if not names:
        texts = [name for name, entries in chunk.items() if isinstance(entries[0], str)]
        names = (TEXT,) if TEXT in texts else tuple(texts)
        if len(names) != 1:
            shown = ", ".join(map(repr, chunk))
            raise UsageError(f"{request.source}: which column has the text? give --column; there are: {shown}")
    columns = [_column(request, chunk, name) for name in names]
    if not all(isinstance(entry, str) for column in columns for entry in column):
        raise CalibrationError(f"{request.source}: column {', '.join(map(repr, names))} has entries that are no text")
    return columns


# -- numbers ----------------------------------------------------------------------------------------------------------


def _numbers(request: Request, chunks: Iterator[Columns]) -> SampleData:
    if all(path.suffix.lower() == ".txt" for path in request.paths):
        raise UsageError(f"{request.source}: texts need --tokenizer tokenizer.json")
    inputs = request.graph.inputs
    writers = {info.name: SampleWriter() for info in inputs}
    for chunk in chunks:
        for info in inputs:
            writers[info.name].add(_input_of(request, chunk, info))
    return SampleData({name: writer.array() for name, writer in writers.items()})


def _input_of(request: Request, chunk: Columns, info: TensorInfo) -> Array:
    """Return the rows of one input: its column; or all columns, where it is the only one and has (samples, columns)."""
    names = [info.name] if info.name in chunk or len(request.graph.inputs) > 1 else list(chunk)
    dtype = info.dtype if info.dtype is not None and info.dtype.kind != "O" else None
    try:
        columns = [np.array(_column(request, chunk, name), dtype=dtype) for name in names]
        stacked = columns[0] if names == [info.name] else np.stack(columns, axis=1)
    except (TypeError, ValueError, OverflowError) as error:
        hint = "; texts need --tokenizer tokenizer.json" if any(isinstance(chunk[n][0], str) for n in names) else ""
        raise CalibrationError(
            f"{request.source}: {', '.join(map(repr, names))} cannot be read as numbers of one shape{hint}"
        ) from error
    width = (info.dims or ())[1:]
    return stacked[:, np.newaxis] if stacked.ndim == 1 and len(width) == 1 else stacked


TABLES = Format("tables or texts", SUFFIXES, _read)
