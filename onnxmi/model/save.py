"""Writing files so that a reader sees the old file, the whole new one, or nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import onnx

from onnxmi.errors import DataError
from onnxmi.model.external import bare_bytes, blocks, encoded, split

Content = bytes | Iterable[bytes]


def contents(proto: onnx.ModelProto, path: Path, external: bool = False) -> dict[Path, Content]:
    """Return the files that a model is written as, for `write_together`.

    One file; or, if it is too large for that or external data is asked for, a data file `NAME.onnx.data` and the model
    file that refers to it. The data file is read by name from the model's folder, so links are refused for both.
    Without a tensor of `external.INLINE` bytes, there is nothing to put into a data file, and none is made.

    Raises
    ------
    ModelError
        If the model exceeds protobuf's 2 GiB limit even without its initializers.
    DataError
        If one of two files would be written through a link.
    """
    whole = encoded(proto)
    if whole is not None and not external:
        return {path: whole}
    data = data_path(path)
    bare, placed = split(proto, data.name)
    if not placed:
        return {path: whole or bare_bytes(bare)}
    refuse_links(path, data)
    return {data: blocks(placed), path: bare_bytes(bare)}


def data_path(path: Path) -> Path:
    """Return where the external data of a model goes."""
    return path.with_name(f"{path.name}.data")


def refuse_links(*paths: Path) -> None:
    """Raise DataError for a link."""
    for path in paths:
        if path.is_symlink():
            raise DataError(f"{path}: is a link; a model and its external data cannot be written through links")


def save(proto: onnx.ModelProto, path: str | os.PathLike[str], *, external: bool = False) -> int:
    """Write a model atomically, with external data if it is asked for or too large; return the bytes written."""
    files = contents(proto, Path(path), external)
    write_together(files)
    return sum(file.stat().st_size for file in files)


def write_atomically(path: Path, data: bytes) -> None:
    """Write one file; see `write_together`."""
    write_together({path: data})


def write_together(files: Mapping[Path, Content]) -> None:
    """Write files so that all of them appear, or none.

    Each is written to a temporary file beside it and flushed to the disk; then all are renamed into place, in the order
    they are given. If a rename fails or a signal comes between two of them, the old files are put back (files that
    were not there are removed). Only a crash of the machine, or SIGKILL, between two renames leaves a part: the first
    files new, the others old. External data comes before its model, so that is unused data if there was no model; an
    old model whose data file was replaced is not to be trusted then, and its plan, which comes last, does not fit.

    Raises
    ------
    DataError
        If a folder is missing or not writable, or the disk is full. Nothing is left behind then.
    """
    with ExitStack() as cleanup:
        ready: list[tuple[str, str]] = []
        for path, data in files.items():
            with _explained(path):
                target = os.path.realpath(path)  # what a link points to is replaced, not the link
                ready.append((_write_temporary(target, data, cleanup), target))
        with ExitStack() as undo:
            for (temporary, target), path in zip(ready, files, strict=True):
                if len(ready) > 1:
                    undo.callback(_put_back, target, _second_name(target, cleanup))
                with _explained(path):
                    os.replace(temporary, target)
            undo.pop_all()


def _second_name(target: str, cleanup: ExitStack) -> str | None:
    """Give a file that is about to be replaced another name to find it by; None if there is no such file."""
    if not os.path.lexists(target):
        return None
    folder, name = os.path.split(target)
    kept = tempfile.mktemp(prefix=f".{name[:100]}.", suffix=".old.tmp", dir=folder)
    cleanup.callback(_remove, kept)
    with suppress(OSError):  # a file system without hard links
        os.link(target, kept)
    return kept


def _put_back(target: str, kept: str | None) -> None:
    with suppress(OSError):
        if kept is None:
            os.unlink(target)
        else:
            os.replace(kept, target)


def _write_temporary(target: str, data: Content, cleanup: ExitStack) -> str:
    """Write and flush a temporary file beside the target; `cleanup` removes it unless it is renamed before."""
    folder, name = os.path.split(target)
    handle, temporary = tempfile.mkstemp(prefix=f".{name[:100]}.", suffix=".tmp", dir=folder)
    cleanup.callback(_remove, temporary)
    with os.fdopen(handle, "wb") as stream:
        stream.writelines([data] if isinstance(data, bytes) else data)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(temporary, 0o666 & ~_umask())
    return temporary


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _remove(temporary: str) -> None:
    with suppress(OSError):  # already renamed
        os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
