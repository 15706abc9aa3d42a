"""`--debug`: a bundle that tells what happened and that a user can send, as it holds no weights and no samples."""

from __future__ import annotations

import io
import json
import os
import platform
import traceback
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from onnxmi.api.targets import check_target
from onnxmi.cli.failures import DEBUG, command_line
from onnxmi.errors import UsageError, stages_of
from onnxmi.model.save import write_together
from onnxmi.model.structure import structure_at
from onnxmi.version import versions

_MOMENT = (1980, 1, 1, 0, 0, 0)  # the same run gives the same bytes


@contextmanager
def bundled(target: Path, context: click.Context) -> Iterator[None]:
    """Write a bundle about what runs in the block, however it ends."""
    files = [path for name, value in context.params.items() if name != "debug" for path in _paths(value)]
    check_target(target)
    if any(target.resolve() == path.resolve() for path in files):
        raise UsageError(f"{target}: is also a file of the run; choose another place with --debug")
    context.meta[DEBUG] = target
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        write_together({target: _bundle(context, files, failure)})


def _paths(value: Any) -> Iterable[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, tuple):
        for entry in value:
            yield from _paths(entry)


def _bundle(context: click.Context, files: Iterable[Path], failure: BaseException | None) -> bytes:
    run = {
        "command": command_line(context),
        "options": {name: _plain(value) for name, value in context.params.items() if name != "dask"},
        "versions": {**versions(), "python": platform.python_version()},
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "outcome": "done" if failure is None else type(failure).__name__,
        "stages": [] if failure is None else [asdict(found) for found in stages_of(failure)],
    }
    contents = {"run.json": run, "files.json": {str(path): _described(path) for path in files if path.is_file()}}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
            archive.writestr(zipfile.ZipInfo(name, _MOMENT), text.encode("utf-8", "replace"))
        if failure is not None:
            text = "".join(traceback.format_exception(failure))
            archive.writestr(zipfile.ZipInfo("traceback.txt", _MOMENT), text.encode("utf-8", "replace"))
    return made.getvalue()


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else str(value) if value is not None else None


def _described(path: Path) -> Any:
    """What may be told of a file: a model's structure, the types and shapes of arrays, or its size."""
    try:
        if path.suffix == ".onnx":
            return structure_at(path)
        if path.suffix == ".npz":
            return _arrays(path)
    except Exception as error:  # a file that cannot be read may be just what went wrong
        return {"bytes": path.stat().st_size, "unreadable": f"{type(error).__name__}: {error}"}
    return {"bytes": path.stat().st_size}


def _arrays(path: Path) -> dict[str, Any]:
    """Read the headers of the arrays in a file, and nothing else."""
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            found[name.removesuffix(".npy")] = {"type": str(dtype), "shape": list(shape)}
    return found
