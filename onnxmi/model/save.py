"""Writing files so that a reader sees the old file, the whole new one, or nothing."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
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
    """Write bytes to a temporary file beside `path`, flush it to the disk and rename it into place.

    Raises
    ------
    DataError
        If the folder is missing or not writable, or the disk is full. Nothing is left behind then.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # already renamed
                os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
