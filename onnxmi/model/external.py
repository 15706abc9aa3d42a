"""Models that are too large for one protobuf message: their tensors go to a second file, as ONNX's external data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError, Message
from onnx.external_data_helper import set_external_data

from onnxmi.errors import DataError, ModelError

PROTOBUF_LIMIT = 2**31 - 1
LIMIT = PROTOBUF_LIMIT - 2**24  # models above this are split; the margin is for readers that add to a model
INLINE = 1024  # tensors of fewer bytes stay in the model file: shape inference reads some of them there
ALIGNMENT = 4096  # of a tensor's place in the data file, so that readers can map it into memory

_Placed = list[tuple[int, onnx.TensorProto]]


def encoded(proto: onnx.ModelProto) -> bytes | None:
    """Return the bytes of a model, the same for the same content; None if it has to be split."""
    if payload(proto) > LIMIT:
        return None
    try:
        data = bytes(proto.SerializeToString(deterministic=True))
    except EncodeError:
        return None
    return data if len(data) <= LIMIT else None


def byte_size(proto: onnx.ModelProto) -> int:
    """Return the size of a model with its tensors; protobuf itself cannot tell it over 2 GiB."""
    if payload(proto) <= LIMIT:
        return int(proto.ByteSize())
    bare, placed = split(proto, "data")
    return int(bare.ByteSize()) + sum(len(tensor.raw_data) for _, tensor in placed)


def payload(proto: onnx.ModelProto) -> int:
    """Estimate how many bytes of initializers could be taken out of a model, without looking at them (a copy each)."""
    return sum(_estimate(tensor) for tensor in proto.graph.initializer if tensor.HasField("raw_data"))


def _estimate(tensor: onnx.TensorProto) -> int:
    try:
        return int(prod(tensor.dims)) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:  # an unknown type, which the checker refuses
        return 0


def split(proto: onnx.ModelProto, location: str) -> tuple[onnx.ModelProto, _Placed]:
    """Take the stored tensors out of a model.

    Parameters
    ----------
    proto : onnx.ModelProto
        With all tensors loaded; not changed, and never copied whole.
    location : str
        The name of the data file.

    Returns
    -------
    bare : onnx.ModelProto
        A copy whose larger initializers refer to the data file.
    placed : list of (int, onnx.TensorProto)
        Where in the data file which tensor of the original goes, in file order.
    """
    bare = onnx.ModelProto()
    _copy_fields(proto, bare, "graph")
    _copy_fields(proto.graph, bare.graph, "initializer")
    placed: _Placed = []
    end = 0
    for tensor in proto.graph.initializer:
        size = len(tensor.raw_data)
        copy = bare.graph.initializer.add()
        if size < INLINE:
            copy.CopyFrom(tensor)
            continue
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        end = offset + size
        placed.append((offset, tensor))
        _copy_fields(tensor, copy, "raw_data")
        copy.raw_data = b""  # set_external_data asks for the field
        set_external_data(copy, location, offset, size)
        copy.ClearField("raw_data")
    return bare, placed


def bare_bytes(bare: onnx.ModelProto) -> bytes:
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


def blocks(placed: Sequence[tuple[int, onnx.TensorProto]]) -> Iterator[bytes]:
    """Yield the content of the data file, a tensor at a time."""
    end = 0
    for offset, tensor in placed:
        data = tensor.raw_data
        yield bytes(offset - end)
        yield data
        end = offset + len(data)


@contextmanager
def openable(proto: onnx.ModelProto) -> Iterator[bytes | str]:
    """Give what other libraries open a model from: its bytes, or a path where it has to be split.

    The path is in a temporary folder (of `TMPDIR`), removed at the end: by then a session has mapped or read the data.

    Raises
    ------
    DataError
        If there is no room for the temporary files.
    """
    data = encoded(proto)
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="onnxmi.", ignore_cleanup_errors=True) as folder:
        bare, placed = split(proto, "data")
        model = Path(folder, "model.onnx")
        try:
            _write(model, [bare_bytes(bare)])
            _write(Path(folder, "data"), blocks(placed))
        except OSError as error:
            raise DataError(f"{folder}: a temporary file cannot be written: {error.strerror}") from error
        yield str(model)


def tensors(message: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor a graph or function stores, those of attributes and inner graphs included."""
    yield from message.initializer if isinstance(message, onnx.GraphProto) else ()
    for node in message.node:
        for attribute in node.attribute:
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from tensors(inner)


def _write(path: Path, content: Iterable[bytes]) -> None:
    with path.open("wb") as stream:
        stream.writelines(content)


def _copy_fields(source: Message, target: Message, left_out: str) -> None:
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
