"""Models that are too large for one protobuf message: their tensors go to a second file, as ONNX's external data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import EncodeError
from onnx.external_data_helper import set_external_data

from onnxmi.errors import DataError, ModelError
from onnxmi.model.mapped import (
    ALIGNMENT,
    copy_fields,
    estimated_bytes,
    is_external,
    is_memory_mapped,
    raw_bytes,
    raw_size,
    with_values_inside,
)
from onnxmi.model.temporary import TemporaryFolder

PROTOBUF_LIMIT = 2**31 - 1
MAX_MESSAGE_BYTES = PROTOBUF_LIMIT - 2**24  # models above this are split; the margin is for readers that add to a model
MIN_SPLIT_BYTES = 1024  # tensors of fewer bytes stay in the model file: shape inference reads some of them there

_Placed = list[tuple[int, onnx.TensorProto]]


def serialized(proto: onnx.ModelProto) -> bytes | None:
    """Return the bytes of a model, the same for the same content; None if it has to be split."""
    if estimated_tensor_bytes(proto) > MAX_MESSAGE_BYTES:
        return None
    try:
        data = bytes(with_values_inside(proto).SerializeToString(deterministic=True))
    except EncodeError:
        return None
    return data if len(data) <= MAX_MESSAGE_BYTES else None


def byte_size(proto: onnx.ModelProto) -> int:
    """Return the size of a model with its tensors; protobuf itself cannot tell it over 2 GiB."""
    if estimated_tensor_bytes(proto) <= MAX_MESSAGE_BYTES and not is_memory_mapped(proto):
        return int(proto.ByteSize())
    bare, placed = split_tensors(proto, "data")
    return int(bare.ByteSize()) + sum(raw_size(tensor) for _, tensor in placed)


def estimated_tensor_bytes(proto: onnx.ModelProto) -> int:
    """Estimate how many bytes of initializers could be taken out of a model, without looking at them (a copy each)."""
    held = (tensor for tensor in proto.graph.initializer if tensor.HasField("raw_data") or is_external(tensor))
    return sum(map(estimated_bytes, held))


def split_tensors(proto: onnx.ModelProto, location: str) -> tuple[onnx.ModelProto, _Placed]:
    """Take the stored tensors out of a model.

    Parameters
    ----------
    proto : onnx.ModelProto
        Not changed, and never copied whole; a memory-mapped model's tensors may be in other files.
    location : str
        The name of the data file.

    Returns
    -------
    bare : onnx.ModelProto
        A copy whose larger initializers refer to the data file.
    placed : list of (int, onnx.TensorProto)
        Where in the data file which tensor of the original goes, in file order.
    """
    bare = _without_initializers(proto)
    placed: _Placed = []
    end = 0
    for tensor in proto.graph.initializer:
        size = raw_size(tensor)
        copy = bare.graph.initializer.add()
        if size < MIN_SPLIT_BYTES:
            copy.CopyFrom(tensor)
            continue
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        end = offset + size
        placed.append((offset, tensor))
        copy_fields(tensor, copy, "raw_data")
        copy.raw_data = b""  # set_external_data asks for the field
        set_external_data(copy, location, offset, size)
        copy.ClearField("raw_data")
    return bare, placed


def without_initializers(
    proto: onnx.ModelProto, unwanted: Callable[[onnx.TensorProto], bool]
) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """Copy a model without some of its initializers, which are never copied; return it and those."""
    bare = _without_initializers(proto)
    left_out: list[onnx.TensorProto] = []
    for tensor in proto.graph.initializer:
        if unwanted(tensor):
            left_out.append(tensor)
        else:
            bare.graph.initializer.add().CopyFrom(tensor)
    return bare, left_out


def _without_initializers(proto: onnx.ModelProto) -> onnx.ModelProto:
    bare = onnx.ModelProto()
    copy_fields(proto, bare, "graph")
    copy_fields(proto.graph, bare.graph, "initializer")
    return bare


def skeleton_bytes(bare: onnx.ModelProto) -> bytes:
    """Return the bytes of what is left of a model without its tensors.

    Raises
    ------
    ModelError
        If even that exceeds protobuf's limit.
    """
    try:
        return bytes(bare.SerializeToString(deterministic=True))
    except EncodeError as error:
        raise ModelError("the model exceeds protobuf's 2 GiB limit even without its initializers") from error


def data_blocks(placed: Sequence[tuple[int, onnx.TensorProto]]) -> Iterator[Any]:
    """Yield the content of the data file, a tensor at a time: bytes, or mapped arrays of bytes."""
    end = 0
    for offset, tensor in placed:
        data = raw_bytes(tensor)
        yield bytes(offset - end)
        yield data
        end = offset + len(data)


@contextmanager
def bytes_or_path(proto: onnx.ModelProto, *, empty: bool = False) -> Iterator[bytes | str]:
    """Give what other libraries open a model from: its bytes, or a path where it has to be split.

    The path is in a temporary folder (of `TMPDIR`), removed at the end: by then a session has mapped or read the data.
    For who does not look at large tensors, a split model's data file may be `empty`: a hole of the right size.

    Raises
    ------
    DataError
        If there is no room for the temporary files.
    """
    data = None if is_memory_mapped(proto) else serialized(proto)
    if data is not None:
        yield data
        return
    with TemporaryFolder() as folder:
        bare, placed = split_tensors(proto, "data")
        model = Path(folder, "model.onnx")
        try:
            _write(model, [skeleton_bytes(bare)])
            _write(Path(folder, "data"), [] if empty else data_blocks(placed))
            os.truncate(Path(folder, "data"), max((o + raw_size(tensor) for o, tensor in placed), default=0))
        except OSError as error:
            raise DataError(f"{folder}: a temporary file cannot be written: {error.strerror}") from error
        yield str(model)


def nested_graphs(message: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield a graph or function and every graph in it."""
    yield message
    for node in message.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from nested_graphs(inner)


def stored_tensors(message: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor a graph or function stores, those of attributes, sparse ones and inner graphs included."""
    for graph in nested_graphs(message):
        sparse: list[onnx.SparseTensorProto] = []
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            sparse.extend(graph.sparse_initializer)
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors
            sparse.extend([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])
            sparse.extend(attribute.sparse_tensors)
        for one in sparse:
            yield from (one.values, one.indices)


def _write(path: Path, content: Iterable[Any]) -> None:
    with path.open("wb") as stream:
        stream.writelines(content)
