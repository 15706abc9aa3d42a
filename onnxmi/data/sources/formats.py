"""The table of formats, and which of them a path is in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath

from onnxmi.data.shards import Shard
from onnxmi.data.sources.arrays import ARCHIVES, ARRAYS
from onnxmi.data.sources.files import Fetched, SourceFiles, address_of, files_of, pieces_of
from onnxmi.data.sources.images import IMAGES
from onnxmi.data.sources.options import SourceOptions
from onnxmi.data.sources.request import Format, Request, SampleData
from onnxmi.data.sources.sounds import SOUNDS
from onnxmi.data.sources.tables import TABLES
from onnxmi.errors import CalibrationError, OnnxmiError
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
    files = files_of(path)
    only, names = _of_one_format(files)
    if shard is None:
        return _read(only, files.fetch(names), Request(path, (), graph, options)), None
    shard = shard.of_source(pieces_of(files, names))
    request = Request(path, (), graph, options, shard, cuts_files=True)
    # Whether they stand apart is told by their names.
    if not only.stands_apart([Path(name) for name in names], graph) or len(names) < shard.count:
        return _read(only, files.fetch(names), request), shard
    read = _read(only, files.fetch(names[shard.among(len(names))]), replace(request, cuts_files=False))
    return replace(read, divided=True), shard


def _read(only: Format, fetched: Fetched, request: Request) -> SampleData:
    """Read files that may be copies of those that the user named."""
    try:
        read = only.read(replace(request, source=fetched.source, paths=fetched.paths))
    except OnnxmiError as error:
        if fetched.held is None:
            raise
        raise type(error)(str(error).replace(str(fetched.source), address_of(request.source) or "")) from error
    return replace(read, held=fetched.held)


def _of_one_format(files: SourceFiles) -> tuple[Format, list[PurePosixPath]]:
    """Return the format of a source's files, and those that are in it: of its folder, or else of its folders."""
    if not files.is_folder:
        return format_of(PurePosixPath(files.where)) or ARCHIVES, [PurePosixPath()]
    by_format = _by_format(files, 1) or _by_format(files, 2)
    if len(by_format) != 1:
        raise CalibrationError(f"{files.where}: {_not_one(by_format)}")
    ((only, names),) = by_format.items()
    return only, names


def _by_format(files: SourceFiles, depth: int) -> dict[Format, list[PurePosixPath]]:
    """Return the files of each format, sorted by name."""
    names: dict[Format, list[PurePosixPath]] = {}
    for name in files.names(depth):
        form = format_of(name)
        if form is not None:
            names.setdefault(form, []).append(name)
    return names


def format_of(path: PurePath) -> Format | None:
    """Return the format that a file's name tells."""
    suffix = path.suffix.lower()
    return next((form for form in FORMATS if suffix in form.suffixes), None)


def _not_one(by_format: dict[Format, list[PurePosixPath]]) -> str:
    if by_format:
        counts = " and ".join(f"{form.noun} ({len(by_format[form])})" for form in FORMATS if form in by_format)
        return f"has {counts}; put those of one format in a folder"
    return f"has no file that is read; the endings are {', '.join(s for form in FORMATS for s in form.suffixes)}"
