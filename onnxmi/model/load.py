"""Reading a model file: everything about it is checked here, once, before any work starts."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from onnxmi.errors import DataError, ModelError, UsageError, stage
from onnxmi.model.external_data import (
    byte_size,
    bytes_or_path,
    data_blocks,
    nested_graphs,
    serialized,
    skeleton_bytes,
    split_tensors,
    stored_tensors,
)
from onnxmi.model.external_location import find_locations
from onnxmi.model.graph import Graph
from onnxmi.model.loop_invariants import simplified
from onnxmi.model.mapped import SpillFile, can_be_mapped, is_worth_mapping, map_in_place
from onnxmi.model.order import in_order
from onnxmi.model.validate import is_text, validate_model

_MOST_NODES = 1_000_000  # in a model with its functions put in place


@dataclass(frozen=True, eq=False)
class Model:
    """A model in memory. The proto is never changed in place: edits work on a copy.

    Attributes
    ----------
    proto : onnx.ModelProto
        With external data loaded; lean where it is large (`onnxmi.model.mapped`).
    digest : str
        SHA-256 of the file and its external data; of the serialized proto for a model that has no file.
    size : int
        Bytes of the file and its external data.
    path : Path or None
        Where it was read from.
    externals : tuple of Path
        The files that its external data was read from.
    spill_file : Scratch
        Holds the large tensors of a large model and of what is made of it, as long as this object lives.
    """

    proto: onnx.ModelProto
    digest: str
    size: int
    path: Path | None = None
    externals: tuple[Path, ...] = ()
    spill_file: SpillFile = field(default_factory=SpillFile, repr=False)

    @cached_property
    def graph(self) -> Graph:
        """The read-only view."""
        return Graph(self.proto)

    @cached_property
    def nodes_digest(self) -> str:
        """SHA-256 of the nodes: `digest` is of the model as it came, before it is rewritten."""
        return nodes_hash(self.proto).hexdigest()

    @cached_property
    def checker_error(self) -> str | None:
        """First line of what the strict ONNX checker objects to, or None where it passes."""
        return checker_error(self.proto)

    @staticmethod
    def of(proto: onnx.ModelProto) -> Model:
        """Wrap a proto that has no file. Raises ModelError; see `validate_model`."""
        scratch, whole = SpillFile(), in_order(inline_functions(proto))
        validate_model(whole)
        mapped = scratch.memory_mapped(simplified(whole))
        return Model(mapped, proto_digest(proto), byte_size(proto), spill_file=scratch)


def nodes_hash(proto: onnx.ModelProto) -> hashlib._Hash:
    """Return the SHA-256 of a model's nodes, to which more can be added."""
    digest = hashlib.sha256()
    for node in proto.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    return digest


def proto_digest(proto: onnx.ModelProto) -> str:
    """Return the SHA-256 of a serialized model, whose tensors follow it where it is too large for one message."""
    data = serialized(proto)
    if data is not None:
        return hashlib.sha256(data).hexdigest()
    bare, placed = split_tensors(proto, "data")
    digest = hashlib.sha256(skeleton_bytes(bare))
    for block in data_blocks(placed):
        digest.update(block)
    return digest.hexdigest()


def checker_error(proto: onnx.ModelProto) -> str | None:
    """Return the first line of the strict checker's objection to a model, or None."""
    try:
        with bytes_or_path(proto, empty=True) as source:
            onnx.checker.check_model(source, full_check=True)
    except DataError:  # no room for temporary files
        raise
    except Exception as error:  # the checker raises several unrelated types
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return None


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the functions it defines put in place of their calls.

    Raises
    ------
    ModelError
        If they call themselves, or each other so often that a small file would become a huge model.
    """
    if not proto.functions:
        return proto
    if _count_inlined_operators(proto) > _MOST_NODES:
        raise ModelError(f"inlining its functions gives more than {_MOST_NODES:,} operators")
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # the inliner raises unrelated types
        raise ModelError(f"the model's functions cannot be inlined: {_one_line(error)}") from error


def _count_inlined_operators(proto: onnx.ModelProto) -> int:
    """Count the operators of a model with its functions put in place. Raises ModelError where they call in a circle."""
    bodies: dict[tuple[str, str], onnx.FunctionProto] = {(f.domain, f.name): f for f in proto.functions}
    counts: dict[tuple[str, str], int | None] = {}

    def count(body: onnx.GraphProto | onnx.FunctionProto) -> int:
        calls = [(node.domain, node.op_type) for graph in nested_graphs(body) for node in graph.node]
        return sum(known(call) if call in bodies else 1 for call in calls)

    def known(call: tuple[str, str]) -> int:
        if call not in counts:
            counts[call] = None  # until it is known
            counts[call] = min(count(bodies[call]), _MOST_NODES + 1)
        found = counts[call]
        if found is None:  # onnx's own inliner may crash on it
            raise ModelError(f"its function {call[1]!r} calls itself")
        return found

    return count(proto.graph)


def as_path(path: object, what: str) -> Path:
    """Return a path.

    Raises
    ------
    UsageError
        If it is of another type; `what` names it.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"{what}: expected a path, not {type(path).__name__}")
    return Path(os.fsdecode(path))


@stage("load")
def load(path: str | os.PathLike[str]) -> Model:
    """Read a model file with its external data.

    Raises
    ------
    ModelError
        If the file is missing, is no ONNX model, refers to external data that is missing or outside its folder, or is
        damaged; see `onnxmi.model.validate`.
    """
    path = as_path(path, "model")
    proto = _parse(path, _read(path))
    try:
        proto = in_order(inline_functions(proto))  # before the data is loaded: the inliner cannot take more than 2 GiB
        externals = _load_external_data(proto, path.parent)
        validate_model(proto)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    files, scratch = [path, *externals], SpillFile()
    size = sum(file.stat().st_size for file in files)
    return Model(scratch.memory_mapped(simplified(proto)), _digest(files), size, path, tuple(externals), scratch)


def _load_external_data(proto: onnx.ModelProto, folder: Path) -> list[Path]:
    """Load external data, but leave the large initializers of a large model where they are; return the files."""
    large, initializers = is_worth_mapping(proto), len(proto.graph.initializer)
    places = find_locations(stored_tensors(proto.graph), folder)
    for number, place in places.items():  # initializers come first
        if large and number < initializers and can_be_mapped(place.tensor, folder):
            map_in_place(place.tensor, folder)
            continue
        try:
            place.tensor.raw_data = place.read()
        except OSError as error:
            raise ModelError(f"external data file {place.file.name!r} cannot be read: {error.strerror}") from error
        place.tensor.ClearField("data_location")  # as in a model without external data
        place.tensor.ClearField("external_data")
    return sorted({place.file for place in places.values()})


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
    if not is_text(proto):
        raise ModelError(f"{path}: is not an ONNX model (a name in it is not UTF-8)")
    if not proto.graph.node or not proto.graph.output or not proto.opset_import:
        raise ModelError(f"{path}: is not an ONNX model (no graph with nodes, outputs and an operator set in it)")
    return proto


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
