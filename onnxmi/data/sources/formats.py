"""The table of formats, and which of them a path is in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onnxmi.data.shards import Shard, file_pieces
from onnxmi.data.sources.arrays import ARCHIVES, ARRAYS
from onnxmi.data.sources.images import IMAGES
from onnxmi.data.sources.options import SourceOptions
from onnxmi.data.sources.request import Format, Request, SampleData
from onnxmi.data.sources.sounds import SOUNDS
from onnxmi.data.sources.tables import TABLES
from onnxmi.errors import CalibrationError
from onnxmi.model import Graph

FORMATS: tuple[Format, ...] = (ARCHIVES, ARRAYS, IMAGES, TABLES, SOUNDS)


def read_path(
    path: Path, graph: Graph, options: SourceOptions, shard: Shard | None = None
) -> tuple[SampleData, Shard | None]:
    """Read a file, or all files of the one format that a folder or else its folders have.

    What has no known ending is read as an archive.

    Parameters
    ----------
    shard : Shard, optional
        The part to read. Of many files, a shard has some; of few, some of the samples.

    Returns
    -------
    SampleData
        What was read.
    Shard or None
        The shard, with the digest of its source.

    Raises
    ------
    CalibrationError
        If the files cannot be read, or are of several formats.
    UsageError
        If an option is needed, or a package that is not installed.
    """
    only, files = _files_of(path)
    if shard is None:
        return only.read(Request(path, files, graph, options)), None
    shard = shard.of_source(file_pieces(path, files))
    if not only.stands_apart(files, graph) or len(files) < shard.count:
        return only.read(Request(path, files, graph, options, shard, cuts_files=True)), shard
    read = only.read(Request(path, files[shard.among(len(files))], graph, options, shard))
    return replace(read, divided=True), shard


def _files_of(path: Path) -> tuple[Format, list[Path]]:
    """Return the files of a source, and the format that they are in."""
    if not path.is_dir():
        return format_of(path) or ARCHIVES, [path]
    by_format = _by_format(path, "*") or _by_format(path, "*/*")
    if len(by_format) != 1:
        raise CalibrationError(f"{path}: {_not_one(by_format)}")
    ((only, files),) = by_format.items()
    return only, files


def _by_format(folder: Path, pattern: str) -> dict[Format, list[Path]]:
    """Return the files of each format, sorted by name; without hidden ones."""
    files: dict[Format, list[Path]] = {}
    for file in sorted(folder.glob(pattern)):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        form = None if hidden else format_of(file)
        if form is not None and file.is_file():
            files.setdefault(form, []).append(file)
    return files


def format_of(path: Path) -> Format | None:
    """Return the format that a file's name tells."""
    suffix = path.suffix.lower()
    return next((form for form in FORMATS if suffix in form.suffixes), None)


def _not_one(by_format: dict[Format, list[Path]]) -> str:
    if by_format:
        counts = " and ".join(f"{form.noun} ({len(by_format[form])})" for form in FORMATS if form in by_format)
        return f"has {counts}; put those of one format in a folder"
    return f"has no file that is read; the endings are {', '.join(s for form in FORMATS for s in form.suffixes)}"
