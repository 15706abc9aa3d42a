"""Ways to damage models, sample files and plans: some know the structure, some only bytes. All draw from a seed."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

NUMBERS = (0, 1, -1, 2, 3, 5, 7, 127, 255, 4096, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, -(2**62), 2**63 - 1)
REALS = (0.0, -1.0, 1e-45, 1e38, -1e300, float("inf"), float("-inf"), float("nan"))
STRINGS = ("", "x", "y", "a\0b", "\x1b[31m", "<script>alert(1)</script>", "../../etc/passwd", "é" * 40, "%s%n", "[/b]")

# -- bytes --


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut out, repeat, overwrite or insert a few stretches."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        rng.choice(_BYTE_LEVEL)(rng, changed)
    return bytes(changed)


def _stretch(rng: random.Random, data: bytearray, longest: int = 64) -> slice:
    start = rng.randrange(len(data) + 1)
    return slice(start, start + rng.randint(1, longest))


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _put_byte(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def _cut_out(rng: random.Random, data: bytearray) -> None:
    del data[_stretch(rng, data)]


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _repeat(rng: random.Random, data: bytearray) -> None:
    stretch = data[_stretch(rng, data, 300)]
    place = rng.randrange(len(data) + 1)
    data[place:place] = stretch


def _insert(rng: random.Random, data: bytearray) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.randbytes(rng.randint(1, 30))


_BYTE_LEVEL = (_flip, _flip, _flip, _put_byte, _put_byte, _cut_out, _repeat, _insert, _truncate)


# -- models --


def damage_model(rng: random.Random, proto: onnx.ModelProto) -> bytes:
    """Change a few fields anywhere in a model."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    words = [*STRINGS, *_names(proto), *_operators(proto)]
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        messages = list(_messages(changed))
        # The smaller parts are the most: give each kind of message the same chance.
        kind = rng.choice(sorted({type(message).__name__ for message in messages}))
        _change_message(rng, rng.choice([m for m in messages if type(m).__name__ == kind]), words)
    return bytes(changed.SerializeToString())


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _messages(inner)


def _names(proto: onnx.ModelProto) -> list[str]:
    return sorted({name for node in proto.graph.node for name in (*node.input, *node.output)})


def _operators(proto: onnx.ModelProto) -> list[str]:
    return [*sorted({node.op_type for node in proto.graph.node}), "Loop", "If", "ConstantOfShape", "Expand", "Tile"]


def _change_message(rng: random.Random, message: Message, words: list[str]) -> None:
    present = [field for field, _ in message.ListFields()]
    field = rng.choice(present if present and rng.random() < 0.8 else list(message.DESCRIPTOR.fields))
    value = getattr(message, field.name)
    if isinstance(value, Message):
        if rng.random() < 0.7:
            message.ClearField(field.name)
        else:
            value.SetInParent()
    elif hasattr(value, "extend"):
        _change_entries(rng, field, value, words)
    elif rng.random() < 0.2:
        message.ClearField(field.name)
    else:
        _try(setattr, message, field.name, _scalar(rng, field, words, value))


def _change_entries(rng: random.Random, field: FieldDescriptor, entries: Any, words: list[str]) -> None:
    action = rng.choice(["delete", "repeat", "swap", "change", "clear"])
    index = rng.randrange(len(entries)) if len(entries) else 0
    if action == "delete" and len(entries):
        del entries[index]
    elif action == "clear" and rng.random() < 0.2:
        del entries[:]
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if action == "repeat" and len(entries):
            entries.add().CopyFrom(entries[index])
        elif action == "swap" and len(entries) > 1:
            copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
            rng.shuffle(copies)
            del entries[:]
            entries.extend(copies)
    elif action == "repeat" or not len(entries):
        _try(entries.append, _scalar(rng, field, words, b""))
    elif action == "change":
        _try(entries.__setitem__, index, _scalar(rng, field, words, entries[index]))


def _scalar(rng: random.Random, field: FieldDescriptor, words: list[str], before: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return damage_bytes(rng, before if isinstance(before, bytes) else b"")
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(words)
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice(REALS)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    small = rng.random() < 0.5
    return rng.randint(-2, 30) if small else rng.choice(NUMBERS)


def _try(change: Callable[..., Any], *args: Any) -> None:
    """Protobuf refuses some values of some fields; then nothing changes."""
    with suppress(ValueError, TypeError, OverflowError, RuntimeError):
        change(*args)


# -- sample files --


def damage_arrays(rng: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """Change names, types, shapes or values of arrays, or what their headers say."""
    changed = dict(arrays)
    for _ in range(rng.choice([1, 1, 2, 3])):
        name = rng.choice(sorted(changed)) if changed else "x"
        rng.choice(_ARRAY_LEVEL)(rng, changed, name)
    headers = rng.random() < 0.4
    return _zip(rng, changed, headers)


def _rename(rng: random.Random, arrays: dict[str, np.ndarray], name: str) -> None:
    if name in arrays:
        arrays[rng.choice([*STRINGS, "labels", name + "x"])] = arrays.pop(name)


def _retype(rng: random.Random, arrays: dict[str, np.ndarray], name: str) -> None:
    kind = rng.choice(["f2", "f4", "f8", ">f4", "i1", "i8", "u8", "?", "c8", "S3", "U3", "M8[s]", "V5", "f4,i8"])
    with np.errstate(all="ignore"):
        _try(lambda: arrays.update({name: arrays[name].astype(np.dtype(kind))}) if name in arrays else None)


def _reshape(rng: random.Random, arrays: dict[str, np.ndarray], name: str) -> None:
    if name in arrays and arrays[name].ndim:
        array = arrays[name]
        shapes = [(array.size,), (1, *array.shape), (*array.shape, 1), array.shape[::-1], (0, *array.shape[1:]), ()]
        arrays[name] = np.resize(array, rng.choice(shapes)) if rng.random() < 0.5 else array[: rng.randint(0, 3)]


def _revalue(rng: random.Random, arrays: dict[str, np.ndarray], name: str) -> None:
    if name in arrays and arrays[name].size and arrays[name].dtype.kind in "fiu":
        with np.errstate(all="ignore"):
            array = arrays[name] = arrays[name].copy()
            value = rng.choice(REALS) if array.dtype.kind == "f" else rng.choice([0, 1, 2, 100])
            array.reshape(-1)[:: rng.choice([1, 7, array.size])] = value


def _drop(rng: random.Random, arrays: dict[str, np.ndarray], name: str) -> None:
    arrays.pop(name, None)


def _add(rng: random.Random, arrays: dict[str, np.ndarray], name: str) -> None:
    arrays[rng.choice([*STRINGS, "labels"])] = np.arange(rng.choice([0, 1, 16, 40]))


_ARRAY_LEVEL = (_rename, _retype, _reshape, _revalue, _drop, _add)


def _zip(rng: random.Random, arrays: dict[str, np.ndarray], headers: bool) -> bytes:
    made = io.BytesIO()
    packing = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(made, "w", packing) as archive:
        for name, array in arrays.items():
            one = io.BytesIO()
            np.save(one, array, allow_pickle=True)
            data = one.getvalue()
            archive.writestr(f"{name}.npy", _damage_header(rng, data) if headers else data)
    return made.getvalue()


def _damage_header(rng: random.Random, data: bytes) -> bytes:
    """Change a number or a word of a header, or its bytes, without moving the data."""
    end = data.find(b"\n", 10) + 1
    header, found = data[10:end], list(re.finditer(rb"\d+|'[^']*'|True|False", data[10:end]))
    if rng.random() < 0.3 or not found:
        return damage_bytes(rng, data[:end]) + data[end:]
    place = rng.choice(found)
    new = rng.choice([b"0", b"-1", b"7", b"99999999999", b"'|O'", b"'<f4'", b"'shape'", b"None", b"()", b"[1]", b"1e9"])
    header = header[: place.start()] + new + header[place.end() :]
    return data[:8] + len(header).to_bytes(2, "little") + header + data[end:]


# -- plans --


def damage_plan(rng: random.Random, text: str) -> bytes:
    """Change a few values anywhere in a plan."""
    document = json.loads(text)
    for _ in range(rng.choice([1, 1, 2, 4])):
        holders = [holder for holder in _holders(document) if len(holder)]
        if holders:
            _change_holder(rng, rng.choice(holders))
    return json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _holders(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _change_holder(rng: random.Random, holder: Any) -> None:
    key = rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    action = rng.choice(["delete", "change", "change", "change", "repeat", "shuffle"])
    if action == "delete":
        del holder[key]
    elif action == "repeat" and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), holder[key])
    elif action == "shuffle" and isinstance(holder, list):
        rng.shuffle(holder)
    else:
        small = rng.randint(-1, 40)
        others = [None, True, [], {}, [[]], [[0], [1]], 1.5, 10**30, small, small, *NUMBERS, *REALS, *STRINGS]
        holder[key] = rng.choice(others)
