"""Memory-mapped models: ModelProtos whose large initializers stay in files and are mapped where they are read.

Copying such a model copies its nodes only. Its sessions share the pages of one file, and protobuf's limit of 2 GiB does
not matter. A tensor refers to its file as ONNX's external data does, but by an absolute path instead of one relative to
the model. Such a model is for this process alone; `with_values_inside` makes one that can be given away.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import numpy_helper

from onnxmi.errors import DataError
from onnxmi.model.temporary import TemporaryFolder
from onnxmi.typing import Array

MIN_EXTERNAL_BYTES = 2**20  # tensors of fewer bytes stay in the message
MIN_MAPPED_BYTES = 2**27  # models of fewer bytes stay whole: copies of them are cheap
ALIGNMENT = 4096  # of a tensor's place in a file, so that readers can map it into memory
ROOT = Path(os.sep)  # what paths of memory-mapped models start from

_T = onnx.TensorProto
# Types of whole bytes: their entries lie in a file as numpy has them in memory.
_MAPPABLE = frozenset(
    {_T.FLOAT, _T.FLOAT16, _T.BFLOAT16, _T.DOUBLE, _T.INT8, _T.UINT8, _T.INT16, _T.UINT16, _T.INT32, _T.UINT32}
    | {_T.INT64, _T.UINT64, _T.BOOL, _T.FLOAT8E4M3FN, _T.FLOAT8E5M2}
)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's values are in a file."""
    return bool(tensor.data_location == _T.EXTERNAL)


def is_memory_mapped(proto: onnx.ModelProto) -> bool:
    """Whether initializers of a model are in files."""
    return any(map(is_external, proto.graph.initializer))


def estimated_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that a tensor's type and shape make, without looking at them (a copy); 0 for unknown types."""
    try:
        return int(prod(tensor.dims)) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:  # an unknown type, which the checker refuses
        return 0


def is_worth_mapping(proto: onnx.ModelProto) -> bool:
    """Whether a model is made lean."""
    return sum(map(estimated_bytes, proto.graph.initializer)) >= MIN_MAPPED_BYTES


def tensor_values(tensor: onnx.TensorProto) -> Array:
    """Return a tensor's values; those in a file are mapped, and read where they are used."""
    if not is_external(tensor):
        return numpy_helper.to_array(tensor)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.asarray(raw_bytes(tensor)).view(dtype).reshape(tuple(tensor.dims))


def raw_bytes(tensor: onnx.TensorProto) -> Any:
    """Return a tensor's raw data: bytes, or a mapped array of bytes."""
    if not is_external(tensor):
        return tensor.raw_data
    path, offset, length = _place(tensor, ROOT)
    return np.memmap(path, np.uint8, "r", offset, (length,))


def raw_size(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's raw data."""
    if not is_external(tensor):
        return len(tensor.raw_data)
    return _place(tensor, ROOT)[2]


def can_be_mapped(tensor: onnx.TensorProto, folder: Path) -> bool:
    """Whether external data of a model in a folder can be mapped as it lies there: large, complete and aligned."""
    path, offset, length = _place(tensor, folder)
    size = estimated_bytes(tensor)
    fits = 0 <= offset <= path.stat().st_size - size and length == size
    return _is_large_tensor(tensor.data_type, size) and fits and offset % 64 == 0 and _is_text(path)


def map_in_place(tensor: onnx.TensorProto, folder: Path) -> None:
    """Leave external data of a model in a folder where it is."""
    path, offset, _ = _place(tensor, folder)
    _refer_to_file(tensor, path, offset)


def _place(tensor: onnx.TensorProto, folder: Path) -> tuple[Path, int, int]:
    """File, offset and length of external data."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = folder / entries["location"]
    return path, int(entries.get("offset", 0)), int(entries.get("length", estimated_bytes(tensor)))


def _is_text(path: Path) -> bool:
    """Whether a path can be written into a protobuf, whose strings are UTF-8."""
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refer_to_file(tensor: onnx.TensorProto, path: Path, offset: int) -> None:
    """Let a tensor refer to values in a file."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = _T.EXTERNAL
    entries = (
        ("location", str(path.resolve().relative_to(ROOT))),
        ("offset", offset),
        ("length", estimated_bytes(tensor)),
    )
    for key, value in entries:
        tensor.external_data.add(key=key, value=str(value))


def with_values_inside(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with all its values in it: itself if it has them."""
    if not is_memory_mapped(proto):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in filter(is_external, copy.graph.initializer):
        tensor.raw_data = bytes(raw_bytes(tensor))
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    return copy


def copy_fields(source: Message, target: Message, left_out: str) -> None:
    """Copy all fields but one, without touching that one."""
    for field, value in source.ListFields():
        if field.name == left_out:
            continue
        if isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            setattr(target, field.name, value)


class SpillFile:
    """A temporary file for the tensors of memory-mapped models; each is stored once. It goes with this object."""

    def __init__(self) -> None:
        self._folder: TemporaryFolder | None = None
        self._places: dict[bytes, int] = {}
        self._end = 0

    def tensor(self, name: str, value: Array) -> onnx.TensorProto:
        """Return a tensor of these values, left in the file if it is large."""
        tensor = onnx.TensorProto(name=name, dims=value.shape)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        if not _is_large_tensor(tensor.data_type, value.nbytes):
            return numpy_helper.from_array(value, name)
        _refer_to_file(tensor, *self._put(np.ascontiguousarray(value).reshape(-1).view(np.uint8)))
        return tensor

    def memory_mapped(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Return a copy of a model with its large initializers in the file; the model itself where it is small."""
        if not is_worth_mapping(proto):
            return proto
        copy = onnx.ModelProto()
        copy_fields(proto, copy, "graph")
        copy_fields(proto.graph, copy.graph, "initializer")
        for tensor in proto.graph.initializer:
            self._add(tensor, copy.graph.initializer)
        return copy

    def _add(self, tensor: onnx.TensorProto, to: Any) -> None:
        made = to.add()
        if not tensor.HasField("raw_data") or not _is_large_tensor(tensor.data_type, estimated_bytes(tensor)):
            made.CopyFrom(tensor)
            return
        copy_fields(tensor, made, "raw_data")
        _refer_to_file(made, *self._put(np.frombuffer(tensor.raw_data, np.uint8)))

    def _put(self, content: Array) -> tuple[Path, int]:
        """Store bytes; return the file and their place in it."""
        key = hashlib.sha256(content.data).digest()
        try:
            path = self._path()
            if key not in self._places:
                self._places[key] = self._append(path, content)
        except OSError as error:
            where = tempfile.gettempdir() if self._folder is None else self._folder.name
            raise DataError(f"{where}: a temporary file cannot be written: {error.strerror}") from error
        return path, self._places[key]

    def _path(self) -> Path:
        if self._folder is None:
            self._folder = TemporaryFolder()
        return Path(self._folder.name, "tensors")

    def _append(self, path: Path, content: Array) -> int:
        offset = -(-self._end // ALIGNMENT) * ALIGNMENT
        write(path, [content], offset)
        self._end = offset + len(content)
        return offset


def write(path: Path, content: Iterable[Any], offset: int = 0) -> None:
    """Write bytes into a file, from an offset on; what lies before stays."""
    with path.open("r+b" if offset else "wb") as stream:
        stream.seek(offset)
        stream.writelines(content)


def _is_large_tensor(data_type: int, size: int) -> bool:
    return data_type in _MAPPABLE and size >= MIN_EXTERNAL_BYTES and sys.byteorder == "little" and os.name == "posix"
