"""Writing files so that a reader sees the old file, the whole new one, or nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import onnx

from onnxmi.errors import DataError, ModelError

PROTOBUF_LIMIT = 2**31 - 1


def serialise(proto: onnx.ModelProto) -> bytes:
    """Return the bytes of a model, the same for the same content.

    Raises
    ------
    ModelError
        If the model exceeds protobuf's 2 GiB limit.
    """
    if proto.ByteSize() > PROTOBUF_LIMIT:
        raise ModelError("the model exceeds protobuf's 2 GiB limit, and writing external data is not supported yet")
    return bytes(proto.SerializeToString(deterministic=True))


def save(proto: onnx.ModelProto, path: Path) -> int:
    """Write a model atomically and return its size in bytes."""
    data = serialise(proto)
    write_atomically(path, data)
    return len(data)


def write_atomically(path: Path, data: bytes) -> None:
    """Write one file; see `write_together`."""
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files so that all of them appear, or none.

    Each is written to a temporary file beside it and flushed to the disk; then all are renamed into place.

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
        for (temporary, target), path in zip(ready, files, strict=True):
            with _explained(path):
                os.replace(temporary, target)


def _write_temporary(target: str, data: bytes, cleanup: ExitStack) -> str:
    """Write and flush a temporary file beside the target; `cleanup` removes it unless it is renamed before."""
    folder, name = os.path.split(target)
    handle, temporary = tempfile.mkstemp(prefix=f".{name[:100]}.", suffix=".tmp", dir=folder)
    cleanup.callback(_remove, temporary)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
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
