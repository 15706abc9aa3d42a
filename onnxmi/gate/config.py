"""The limits of a project in a file, `onnxmi.toml`: its table `[check]` has the options of `onnxmi check`."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from onnxmi.errors import DataError, UsageError

PATHS = ("model", "baseline", "data", "junit", "markdown")  # relative to the file's folder
LISTS = ("output", "ignore-output")  # given as often as there are outputs
TABLE = "check"


def read_config(path: Path, known: Collection[str]) -> dict[str, Any]:
    """Return the table `[check]`, its paths resolved.

    Parameters
    ----------
    path : Path
        The file.
    known : collection of str
        The options there are, as on the command line, without dashes in front.

    Raises
    ------
    DataError
        If the file cannot be read, or is no TOML.
    UsageError
        If it has no such table, or options that do not exist.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of the encoding, or of the format
        raise DataError(f"{path}: is not a valid TOML file: {error}") from error
    table = found.get(TABLE)
    if not isinstance(table, dict):
        raise UsageError(f"{path}: has no table [{TABLE}]")
    unknown = [name for name in table if name not in known]
    if unknown:
        raise UsageError(f"{path}: no option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    for name, value in table.items():
        if not isinstance(value, str | int | float) and not _are_texts(name, value):
            raise UsageError(f"{path}: {name} is neither text nor a number nor true or false")
    return {name: _resolved(path, name, value) for name, value in table.items()}


def _resolved(path: Path, name: str, value: Any) -> Any:
    if name in PATHS:
        return str(path.parent / str(value))
    return [value] if name in LISTS and isinstance(value, str) else value


def _are_texts(name: str, value: Any) -> bool:
    return name in LISTS and isinstance(value, list) and all(isinstance(text, str) for text in value)
