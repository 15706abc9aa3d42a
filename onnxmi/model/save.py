"""Writing files so that a reader sees the old file, the whole new one, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import onnx

from onnxmi.errors import DataError
from onnxmi.model.external_data import data_blocks, serialized, skeleton_bytes, split_tensors
from onnxmi.model.temporary import TemporaryFolder, exclusive

Content = bytes | Iterable[bytes] | Callable[[IO[bytes]], None]
"""What a file holds: all of it, piece by piece, or what a function writes into the open file."""


def files_of(proto: onnx.ModelProto, path: Path, *, external: bool = False) -> dict[Path, Content]:
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
    if not external and (whole := serialized(proto)) is not None:
        return {path: whole}
    data = data_path(path)
    bare, placed = split_tensors(proto, data.name)
    if not placed:
        return {path: serialized(proto) or skeleton_bytes(bare)}
    refuse_links(path, data)
    return {data: data_blocks(placed), path: skeleton_bytes(bare)}


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
    files = files_of(proto, Path(path), external=external)
    write_together(files)
    return sum(file.stat().st_size for file in files)


def write_atomically(path: Path, data: Content) -> None:
    """Write one file; see `write_together`."""
    write_together({path: data})


def write_together(files: Mapping[Path, Content]) -> None:
    """Write files so that all of them appear, or none.

    Each is written to a temporary folder beside it and flushed to the disk; then all are renamed into place, in the
    order they are given. If that fails or a signal comes in between, the old files are put back (files that were not
    there are removed). A crash of the machine, or SIGKILL, in between leaves the first of the new files and none of the
    old ones that came after them, which would not fit: external data without a model, or a model without its plan. What
    it leaves in the temporary folder, the next run removes.

    Two runs that write the same files at the same time leave those of one of them.

    Raises
    ------
    DataError
        If a folder is missing or not writable, or the disk is full. Nothing is left behind then.
    """
    with ExitStack() as cleanup:
        folders: dict[str, _Folder] = {}
        ready: list[tuple[Path, str, str]] = []
        for path, data in files.items():
            with _as_data_error(path):
                target = os.path.realpath(path)  # what a link points to is replaced, not the link
                parent = os.path.dirname(target)
                if parent not in folders:
                    folders[parent] = _Folder(parent)
                    cleanup.enter_context(folders[parent])
                ready.append((path, folders[parent].write(data), target))
        with ExitStack() as undo, _one_at_a_time(folders):
            with _as_data_error(next(iter(files))):
                _move_old_files_away([target for _, _, target in ready], folders, undo)
            for path, temporary, target in ready:
                if len(ready) > 1:
                    undo.callback(_restore, target, folders[os.path.dirname(target)].second_name(target))
                with _as_data_error(path):
                    os.replace(temporary, target)
            undo.pop_all()


class _Folder(TemporaryFolder):
    """Where files are until they are renamed: on the same file system as what they replace."""

    _files = 0

    def write(self, data: Content) -> str:
        """Write and flush a file; return its path."""
        temporary = self.free_path()
        with open(temporary, "xb") as stream:
            if callable(data):
                data(stream)
            else:
                stream.writelines([data] if isinstance(data, bytes) else data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        return temporary

    def second_name(self, target: str) -> str | None:
        """Give a file that is about to be replaced another name to find it by; None if there is no such file."""
        if not os.path.lexists(target):
            return None
        kept = self.free_path()
        with suppress(OSError):  # a file system without hard links
            os.link(target, kept)
        return kept

    def free_path(self) -> str:
        """Return a path that nothing has yet."""
        self._files += 1
        return os.path.join(self.name, f"{self._files}.tmp")


def _move_old_files_away(targets: Sequence[str], folders: Mapping[str, _Folder], undo: ExitStack) -> None:
    """Move away, last first, what would not fit what comes before it: a model to its data, a plan to its model."""
    for index in reversed(range(1, len(targets))):
        target = targets[index]
        if os.path.isfile(target) and any(map(os.path.lexists, targets[:index])):
            kept = folders[os.path.dirname(target)].free_path()
            undo.callback(_restore, target, kept)
            os.rename(target, kept)


@contextmanager
def _one_at_a_time(folders: Iterable[str]) -> Iterator[None]:
    """Keep another run from renaming files in the same folders in between."""
    with ExitStack() as locks:
        for folder in sorted(folders):
            locks.enter_context(exclusive(folder))
        yield


def _restore(target: str, kept: str | None) -> None:
    with suppress(OSError):
        if kept is None:
            os.unlink(target)
        else:
            os.replace(kept, target)


@contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
