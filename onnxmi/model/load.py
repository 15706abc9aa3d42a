"""Reading a model file: everything about it is checked here, once, before any work starts."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from onnxmi.errors import DataError, ModelError
from onnxmi.model.external import bare_bytes, blocks, byte_size, encoded, openable, split, tensors
from onnxmi.model.graph import Graph
from onnxmi.model.lean import Scratch, is_large, leave, may_stay


@dataclass(frozen=True, eq=False)
class Model:
    """A model in memory. The proto is never changed in place: edits work on a copy.

    Attributes
    ----------
    proto : onnx.ModelProto
        With external data loaded; lean where it is large (`onnxmi.model.lean`).
    digest : str
        SHA-256 of the file and its external data; of the serialised proto for a model that has no file.
    size : int
        Bytes of the file and its external data.
    path : Path or None
        Where it was read from.
    externals : tuple of Path
        The files that its external data was read from.
    scratch : Scratch
        Holds the large tensors of a large model and of what is made of it, as long as this object lives.
    """

    proto: onnx.ModelProto
    digest: str
    size: int
    path: Path | None = None
    externals: tuple[Path, ...] = ()
    scratch: Scratch = field(default_factory=Scratch, repr=False)

    @cached_property
    def graph(self) -> Graph:
        """The read-only view."""
        return Graph(self.proto)

    @cached_property
    def checker_complaint(self) -> str | None:
        """First line of what the strict ONNX checker objects to, or None where it passes."""
        return complaint(self.proto)

    @staticmethod
    def of(proto: onnx.ModelProto) -> Model:
        """Wrap a proto that has no file."""
        scratch = Scratch()
        data = encoded(proto)
        if data is not None:
            return Model(scratch.lean(inlined(proto)), hashlib.sha256(data).hexdigest(), len(data), scratch=scratch)
        bare, placed = split(proto, "data")
        digest = hashlib.sha256(bare_bytes(bare))
        for block in blocks(placed):
            digest.update(block)
        return Model(scratch.lean(inlined(proto)), digest.hexdigest(), byte_size(proto), scratch=scratch)


def complaint(proto: onnx.ModelProto) -> str | None:
    """Return the first line of the strict checker's objection to a model, or None."""
    try:
        with openable(proto, empty=True) as source:
            onnx.checker.check_model(source, full_check=True)
    except DataError:  # no room for temporary files
        raise
    except Exception as error:  # the checker raises several unrelated types
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return None


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the functions it defines put in place of their calls."""
    if not proto.functions:
        return proto
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # the inliner raises unrelated types
        raise ModelError(f"the model's own functions cannot be put in place: {_one_line(error)}") from error


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model file with its external data.

    Raises
    ------
    ModelError
        If the file is missing, is no ONNX model, or refers to external data that is missing or outside its folder.
    """
    path = Path(path)
    proto = _parse(path, _read(path))
    externals = _external_files(proto, path)
    proto = inlined(proto)  # before the data is loaded: the inliner cannot take more than 2 GiB
    try:
        _take_in(proto, path.parent)
    except Exception as error:  # the helper raises OSError, ValueError or ValidationError
        raise ModelError(f"{path}: its external data cannot be read: {_one_line(error)}") from error
    files, scratch = [path, *externals], Scratch()
    size = sum(file.stat().st_size for file in files)
    return Model(scratch.lean(proto), _digest(files), size, path, tuple(externals), scratch)


def _take_in(proto: onnx.ModelProto, folder: Path) -> None:
    """Load external data, but leave the large initializers of a large model where they are."""
    large, initializers = is_large(proto), len(proto.graph.initializer)
    for number, tensor in enumerate(_stored(proto)):  # those come first
        if not uses_external_data(tensor):
            continue
        if large and number < initializers and may_stay(tensor, folder):
            leave(tensor, folder)
            continue
        load_external_data_for_tensor(tensor, str(folder))
        tensor.ClearField("data_location")  # as in a model without external data


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ModelError(f"{path}: is a folder, not a model file")
        if not stat.S_ISREG(mode):
            raise ModelError(f"{path}: is not a regular file")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise ModelError(f"{path}: is empty")
    return data


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{path}: is not an ONNX model (protobuf cannot parse it)") from error
    if not proto.graph.node or not proto.graph.output or not proto.opset_import:
        raise ModelError(f"{path}: is not an ONNX model (no graph with nodes, outputs and an operator set in it)")
    return proto


def _external_files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    """Return the external data files, all of them regular files inside the model's folder."""
    folder = path.parent.resolve()
    names = sorted({e.value for tensor in _stored(proto) for e in tensor.external_data if e.key == "location"})
    for name in names:
        target = path.parent / name
        if os.path.isabs(name) or folder not in target.resolve().parents:
            raise ModelError(f"{path}: external data {name!r} lies outside the model's folder; refused")
        if not target.is_file():
            raise ModelError(f"{path}: external data file {name!r} is missing")
    return [path.parent / name for name in names]


def _stored(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (tensor for part in (proto.graph, *proto.functions) for tensor in tensors(part))


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
