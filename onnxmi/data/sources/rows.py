"""Rows of tables: CSV, lines of JSON, plain lines of text, Parquet; a chunk of rows at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from onnxmi.data.shards import Shard
from onnxmi.data.sources.request import require_extra
from onnxmi.errors import CalibrationError

CHUNK = 1024  # rows
_PARQUET = ".parquet"
TEXT = "text"  # the column of files that have lines only
Columns = Mapping[str, Sequence[Any]]
"""Column -> its entries, of some rows."""


def read_rows(path: Path) -> Iterator[Columns]:
    """Yield the rows of a file in chunks, by the ending of its name.

    Raises
    ------
    CalibrationError
        If it cannot be read, naming the line where there is one.
    """
    try:
        yield from _READERS[path.suffix.lower()](path)
    except (OSError, UnicodeDecodeError) as error:
        why = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
        raise CalibrationError(f"{path}: {why}") from error


def rows_of_shard(paths: Sequence[Path], shard: Shard) -> Iterator[Columns]:
    """Yield one shard's rows of several files, in chunks. Of Parquet files, only the row groups that have any are read.

    Raises
    ------
    CalibrationError
        If a file cannot be read, or the shard has no rows.
    """
    counts = [_count_rows(path) for path in paths]
    own, first = shard.among(sum(counts)), 0
    if own.start == own.stop:
        raise CalibrationError(f"{paths[0].parent}: shard {shard} has no rows: there are {sum(counts):,} in all")
    for path, count in zip(paths, counts, strict=True):
        start, stop = max(own.start - first, 0), min(own.stop - first, count)
        if start < stop:
            yield from _between(path, start, stop)
        first += count


def _count_rows(path: Path) -> int:
    if path.suffix.lower() == _PARQUET:
        with _opened_parquet(path) as file:
            return int(file.metadata.num_rows)
    return sum(len(next(iter(chunk.values()), ())) for chunk in read_rows(path))


def _between(path: Path, start: int, stop: int) -> Iterator[Columns]:
    """Yield the rows of a file from one place to another."""
    place, chunks = 0, read_rows(path)
    if path.suffix.lower() == _PARQUET:
        with _opened_parquet(path) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        groups = [n for n, size in enumerate(sizes) if starts[n] < stop and starts[n] + size > start]
        place, chunks = starts[groups[0]], _parquet(path, groups)
    for chunk in chunks:
        count = len(next(iter(chunk.values()), ()))
        first, last = max(start - place, 0), min(stop - place, count)
        if first < last:
            yield {name: entries[first:last] for name, entries in chunk.items()}
        place += count
        if place >= stop:
            return


def _lines(path: Path) -> Iterator[Columns]:
    with path.open(encoding="utf-8-sig") as stream:
        lines = filter(None, (line.rstrip("\r\n") for line in stream))
        while chunk := list(islice(lines, CHUNK)):
            yield {TEXT: chunk}


def _csv(path: Path) -> Iterator[Columns]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or []
        try:
            while chunk := list(islice(reader, CHUNK)):
                if any(None in row or None in row.values() for row in chunk):
                    raise CalibrationError(f"{path}: line {reader.line_num} or before: not {len(names)} columns")
                yield {name: [row[name] for row in chunk] for name in names}
        except csv.Error as error:
            raise CalibrationError(f"{path}: line {reader.line_num}: {error}") from error


def _json_lines(path: Path) -> Iterator[Columns]:
    with path.open(encoding="utf-8-sig") as stream:
        numbered = ((number, line) for number, line in enumerate(stream, 1) if line.strip())
        while chunk := [_object(path, number, line) for number, line in islice(numbered, CHUNK)]:
            names = [name for name in chunk[0] if all(name in row for row in chunk)]
            yield {name: [row[name] for row in chunk] for name in names}


def _object(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CalibrationError(f"{path}: line {number}: is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise CalibrationError(f"{path}: line {number}: is no JSON object with a field for each column")
    return row


def _parquet(path: Path, groups: Sequence[int] | None = None) -> Iterator[Columns]:
    with _opened_parquet(path) as file:
        for batch in file.iter_batches(batch_size=CHUNK, row_groups=groups):
            yield {name: batch.column(name).to_pylist() for name in batch.schema.names}


@contextmanager
def _opened_parquet(path: Path) -> Iterator[Any]:
    parquet = require_extra("pyarrow.parquet", "parquet", "Parquet files")
    arrow = require_extra("pyarrow", "parquet", "Parquet files")
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except arrow.ArrowException as error:
        raise CalibrationError(
            f"{path}: is not a readable Parquet file: {' '.join(str(error).split())[:120]}"
        ) from error


_READERS = {".txt": _lines, ".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, _PARQUET: _parquet}
SUFFIXES = tuple(_READERS)
