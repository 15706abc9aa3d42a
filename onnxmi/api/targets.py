"""Where results go, and what is wrong with some places."""

from __future__ import annotations

import os
from pathlib import Path

from onnxmi.errors import DataError, UsageError
from onnxmi.graph.plan import plan_path
from onnxmi.model import Model
from onnxmi.model.save import data_path, refuse_links


def default_target(model: Path) -> Path:
    """Return the path beside the model that a result goes to unless another is asked for."""
    return model.parent / f"{model.stem}.pruned.onnx"


def check_result_target(source: Model, target: Path, *inputs: object, plan: object = None) -> None:
    """Refuse early a place where a result and its plan cannot go, or that is one of the inputs.

    Parameters
    ----------
    source : Model
        The original.
    target : Path
        Where the result goes.
    *inputs : object
        What was given; those that are paths are not written over.
    plan : object
        The same, but for the plan of the result, which may take its place.
    """
    read = [*filter(None, [source.path]), *_paths(*inputs)]
    check_target(target, *[*read, *_paths(plan)])
    check_target(plan_path(target), *read)
    check_external(source, target, plan_path(target))


def _paths(*inputs: object) -> list[Path]:
    return [Path(os.fsdecode(given)) for given in inputs if isinstance(given, str | os.PathLike)]


def check_external(source: Model, target: Path, *others: Path) -> None:
    """Refuse to write over the external data of the source, or where that of the result cannot go."""
    for path in (target, *others):
        check_target(path, *source.externals)
    if source.externals:
        refuse_links(target, data_path(target))
        check_target(data_path(target), *source.externals)


def check_page(page: Path, *taken: Path) -> None:
    """Refuse early to write a report where it cannot go, or over an input or another output."""
    check_target(page)
    if any(page.resolve() == other.resolve() for other in taken):
        raise UsageError(f"{page}: is also an input or another output; choose another place with --report")


def check_target(target: Path, *sources: Path) -> None:
    """Refuse early what would fail after the work is done."""
    folder = target.resolve().parent
    if not folder.is_dir():
        raise DataError(f"{target}: its folder does not exist")
    if target.is_dir():
        raise DataError(f"{target}: is a folder")
    if target.exists() and not target.is_file():
        raise DataError(f"{target}: exists and is not a regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{target}: its folder is not writable")
    if any(target.resolve() == source.resolve() for source in sources):
        raise UsageError(f"{target}: is also an input; choose another output")
