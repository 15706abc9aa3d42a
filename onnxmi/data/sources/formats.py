"""The table of formats, and which of them a path is in."""

from __future__ import annotations

from pathlib import Path

from onnxmi.data.sources.arrays import ARCHIVES, ARRAYS
from onnxmi.data.sources.images import IMAGES
from onnxmi.data.sources.options import SourceOptions
from onnxmi.data.sources.request import Format, Request, SampleData
from onnxmi.data.sources.sounds import SOUNDS
from onnxmi.data.sources.tables import TABLES
from onnxmi.errors import CalibrationError
from onnxmi.model import Graph

FORMATS: tuple[Format, ...] = (ARCHIVES, ARRAYS, IMAGES, TABLES, SOUNDS)


def read_path(path: Path, graph: Graph, options: SourceOptions) -> SampleData:
    """Read a file, or all files of the one format that a folder or else its folders have.

    What has no known ending is read as an archive.

    Raises
    ------
    CalibrationError
        If the files cannot be read, or are of several formats.
    UsageError
        If an option is needed, or a package that is not installed.
    """
    if not path.is_dir():
        return (format_of(path) or ARCHIVES).read(Request(path, [path], graph, options))
    by_format = _by_format(path, "*") or _by_format(path, "*/*")
    if len(by_format) != 1:
        raise CalibrationError(f"{path}: {_not_one(by_format)}")
    ((only, files),) = by_format.items()
    return only.read(Request(path, files, graph, options))


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
