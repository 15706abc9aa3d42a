"""Sample and statistics files that are damaged, hostile or huge."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import onnx
import pytest

from onnxmi.data import npz
from tests.cli.conftest import Workplace


@pytest.fixture
def place(tmp_path, monkeypatch, mlp) -> Workplace:
    onnx.save(mlp(), tmp_path / "model.onnx")
    return Workplace(tmp_path, monkeypatch)


def npy(shape=(4, 6), dtype="<f4", content=None, version=b"\1\0"):
    """An array file whose header says what it is told to say."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    length = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    data = bytes(96) if content is None else content
    return b"\x93NUMPY" + version + length + header + data


def zipped(folder, packing=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(folder / "bad.npz", "w", packing) as made:
        for name, content in members.items():
            made.writestr(f"{name}.npy", content)


class Trap:
    """Unpickled, it would write a file."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


HEADERS = {
    "more than there is": (npy(shape=(10**12, 6)), "is not as long as its shape (1000000000000, 6) takes"),
    "less than there is": (npy(shape=(3, 6)), "is not as long as"),
    "negative": (npy(shape=(-4, 6)), "is not as long as"),
    "overflowing": (npy(shape=(2**62, 2**62)), "is not as long as"),
    "objects": (npy(dtype="|O", content=bytes(192)), "holds Python objects"),
    "no header": (b"\x93NUMPY\1\0\xff\xff{}", "is not a readable .npz file"),
    "code in the header": (
        npy().replace(b"'<f4', ", b"__import__('os').mkdir('trapped'),"),
        "is not a readable .npz file",
    ),
    "another version": (npy(version=b"\x09\0"), "version (9, 0)"),
    "no array": (b"hello", "'x' is not an array"),
    "empty": (b"", "'x' is not an array"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_lie(place, kind):
    content, message = HEADERS[kind]
    zipped(place.folder, x=content)
    assert message in place.fails(3, "prune", "model.onnx", "bad.npz")
    assert not (place.folder / "trapped").exists()


def test_a_good_archive_made_by_hand(place):
    zipped(place.folder, x=npy(shape=(16, 6), content=np.random.default_rng(0).normal(size=96).astype("<f4").tobytes()))
    place.succeeds("prune", "model.onnx", "bad.npz", "--keep", "0.5")


@pytest.mark.parametrize("kind", ["object array", "bare pickle", "pickle inside"])
def test_pickles_are_never_loaded(place, kind):
    trap = pickle.dumps(Trap())
    if kind == "object array":
        np.savez(place.folder / "bad.npz", x=np.array([Trap()], dtype=object))
    elif kind == "bare pickle":
        (place.folder / "bad.npz").write_bytes(trap)
    else:
        zipped(place.folder, x=trap)
    place.fails(3, "prune", "model.onnx", "bad.npz")
    assert not (place.folder / "trapped").exists()


def test_a_zip_bomb_is_not_unpacked(place, monkeypatch):
    """A megabyte that would become a gigabyte."""
    header = npy(shape=(2**28 // 6, 6), content=b"")
    with zipfile.ZipFile(place.folder / "bad.npz", "w", zipfile.ZIP_DEFLATED) as made, made.open("x.npy", "w") as out:
        out.write(header)
        block = bytes(1 << 20)
        for _ in range(1023):
            out.write(block)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked"))
    assert "refused as a zip bomb" in place.fails(3, "prune", "model.onnx", "bad.npz")


def test_a_directory_that_lies_about_sizes(place, monkeypatch):
    """What an entry says to unpack to is the most that is read of it."""
    monkeypatch.setattr(npz, "LARGE", 10_000)
    zipped(place.folder, zipfile.ZIP_DEFLATED, x=npy(shape=(100_000, 6), content=bytes(2_400_000)))
    data = bytearray((place.folder / "bad.npz").read_bytes())
    at = data.rindex(b"PK\1\2")
    data[at + 24 : at + 28] = (4096).to_bytes(4, "little")
    (place.folder / "bad.npz").write_bytes(data)
    place.fails(3, "prune", "model.onnx", "bad.npz")


def test_constant_samples_are_no_bomb(place):
    """Masks of ones shrink a thousandfold; they are read as long as they are small."""
    np.savez_compressed(place.folder / "bad.npz", x=np.ones((400_000, 6), np.float32))
    message = place.fails(3, "merge", "bad.npz", "-o", "out.npz")
    assert "is not a statistics file" in message


def test_two_arrays_of_one_name(place):
    zipped(place.folder, x=npy(), y=npy())
    data = (place.folder / "bad.npz").read_bytes()
    (place.folder / "bad.npz").write_bytes(data.replace(b"y.npy", b"x.npy"))
    assert "two arrays of one name" in place.fails(3, "prune", "model.onnx", "bad.npz")


def test_a_pipe_is_not_waited_for(place):
    os.mkfifo(place.folder / "pipe")
    assert place.fails(3, "prune", "model.onnx", "pipe") == "pipe: is not a regular file"
    assert place.fails(3, "merge", "pipe", "-o", "out.npz") == "pipe: is not a regular file"
    assert place.fails(3, "apply", "model.onnx", "pipe") == "pipe: is not a regular file"


def test_encrypted_archives(place):
    zipped(place.folder, x=npy())
    data = bytearray((place.folder / "bad.npz").read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + flags] |= 1
    (place.folder / "bad.npz").write_bytes(data)
    assert "is not a readable .npz file" in place.fails(3, "prune", "model.onnx", "bad.npz")


def test_other_archives(place):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as inner:
        inner.writestr("readme.txt", "hello")
    (place.folder / "bad.npz").write_bytes(made.getvalue())
    assert "'readme.txt' is not an array" in place.fails(3, "prune", "model.onnx", "bad.npz")
