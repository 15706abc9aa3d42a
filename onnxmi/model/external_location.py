"""Where the external data of a model lies, and whether it may be read from there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from onnxmi.errors import ModelError
from onnxmi.model.validate import byte_count


@dataclass(frozen=True)
class ExternalLocation:
    """Where the values of one stored tensor lie.

    Attributes
    ----------
    tensor : onnx.TensorProto
        The tensor, without values.
    file : Path
        A regular file in the model's folder or below it.
    offset, length : int
        In bytes; the file has that many, and the tensor takes just as many.
    """

    tensor: onnx.TensorProto
    file: Path
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length

    def read(self) -> bytes:
        """Return the values' bytes. Raises OSError."""
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.length)
        if len(data) != self.length:
            raise OSError(0, "it became shorter while it was read", str(self.file))
        return data


def find_locations(tensors: Iterable[onnx.TensorProto], folder: Path) -> dict[int, ExternalLocation]:
    """Return where the tensors that have external data find it, by their number.

    Raises
    ------
    ModelError
        If a path leaves the folder (absolute, upwards, or by a link), a file is missing or too short, a place does not
        hold what the tensor's shape takes, or two places overlap without being the same.
    """
    places = {number: _location(tensor, folder) for number, tensor in enumerate(tensors) if uses_external_data(tensor)}
    _refuse_overlaps(places.values())
    return places


def _location(tensor: onnx.TensorProto, folder: Path) -> ExternalLocation:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _file(entries.get("location", ""), folder)
    where = f"stored tensor {tensor.name!r}: external data"
    wanted, size = byte_count(tensor), file.stat().st_size
    offset = _number(entries.get("offset") or "0", where)
    length = _number(entries["length"], where) if entries.get("length") else wanted
    if length != wanted:
        raise ModelError(f"{where} has {length:,} bytes; its shape {list(tensor.dims)} takes {wanted:,}")
    if offset + length > size:
        raise ModelError(f"{where} ends at byte {offset + length:,} of {file.name!r}, which has {size:,}")
    return ExternalLocation(tensor, file, offset, length)


def _file(name: str, folder: Path) -> Path:
    if "\0" in name:
        raise ModelError(f"external data {name!r} is not a file name")
    file = folder / name
    if os.path.isabs(name) or folder.resolve() not in file.resolve().parents:
        raise ModelError(f"external data {name!r} lies outside the model's folder; refused")
    if not file.is_file():
        raise ModelError(f"external data file {name!r} is missing")
    return file


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ModelError(f"{where} is at {text[:40]!r}, which is not a number of bytes")
    return int(text)


def _refuse_overlaps(places: Iterable[ExternalLocation]) -> None:
    """The same place for several tensors is one way to share; a part of another is damage."""
    before: ExternalLocation | None = None
    for place in sorted(places, key=lambda place: (str(place.file), place.offset, -place.length)):
        if before is None or before.file != place.file or before.end <= place.offset:
            before = place if place.length else before
        elif place.length and (before.offset, before.length) != (place.offset, place.length):
            names = f"{before.tensor.name!r} and {place.tensor.name!r}"
            raise ModelError(f"the external data of stored tensors {names} overlaps in {place.file.name!r}")
