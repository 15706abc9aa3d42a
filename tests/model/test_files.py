"""Reading models with everything about the file checked, and writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import stat

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxmi import load, save
from onnxmi.errors import DataError, ModelError
from onnxmi.model.save import write_atomically, write_together


def refused(path):
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# -- reading ---------------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    assert "No such file" in refused(tmp_path / "none.onnx")


def test_folder(tmp_path):
    assert "is a folder" in refused(tmp_path)


def test_device():
    assert "is not a regular file" in refused(os.devnull)


def test_empty_file(tmp_path):
    (tmp_path / "m.onnx").touch()
    assert "is empty" in refused(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "content",
    [b"hello, world\n", b"\x00" * 100, b"\xff" * 100, np.random.default_rng(0).bytes(5000), b"PK\x03\x04junk"],
    ids=["text", "zeros", "ones", "random", "zip"],
)
def test_what_is_no_model(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    assert "is not an ONNX model" in refused(tmp_path / "m.onnx")


def test_another_protobuf(tmp_path, mlp):
    (tmp_path / "m.onnx").write_bytes(mlp().graph.SerializeToString())
    assert "is not an ONNX model" in refused(tmp_path / "m.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_model(tmp_path, mlp, share):
    data = mlp().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data[: int(len(data) * share)])
    assert "is not an ONNX model" in refused(tmp_path / "m.onnx")


def test_a_graph_without_nodes(tmp_path, mlp):
    proto = mlp()
    del proto.graph.node[:]
    onnx.save(proto, tmp_path / "m.onnx")
    assert "no graph with nodes" in refused(tmp_path / "m.onnx")


def test_a_name_that_is_too_long(tmp_path):
    assert "cannot be read" in refused(tmp_path / ("x" * 5000))


@pytest.fixture
def external(tmp_path, mlp):
    """A model whose weights lie in `weights.bin` beside it."""
    path = tmp_path / "m.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def relocate(path, location):
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())


def test_external_data_is_read_and_part_of_the_digest(external, mlp):
    model = load(external)
    stored = {t.name: numpy_helper.to_array(t) for t in model.proto.graph.initializer}
    wanted = {t.name: numpy_helper.to_array(t) for t in mlp().graph.initializer}
    assert all(np.array_equal(stored[name], wanted[name]) for name in wanted)
    assert model.size == external.stat().st_size + (external.parent / "weights.bin").stat().st_size
    data = bytearray((external.parent / "weights.bin").read_bytes())
    data[0] ^= 1
    (external.parent / "weights.bin").write_bytes(data)
    assert load(external).digest != model.digest


def test_missing_external_data(external):
    (external.parent / "weights.bin").unlink()
    assert "'weights.bin' is missing" in refused(external)


def test_truncated_external_data(external):
    (external.parent / "weights.bin").write_bytes(b"12")
    refused(external)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin", ""])
def test_external_data_outside_the_folder_is_not_read(tmp_path, external, location):
    relocate(external, location)
    message = refused(external)
    assert "outside the model's folder" in message or "missing" in message


def test_external_data_behind_a_link_out_of_the_folder(tmp_path, external):
    inner = tmp_path / "inner"
    inner.mkdir()
    moved = external.rename(inner / "m.onnx")
    (inner / "weights.bin").symlink_to(tmp_path / "weights.bin")
    assert "outside the model's folder" in refused(moved)


# -- writing ---------------------------------------------------------------------------------------------------------


def test_saving_replaces_the_old_file(tmp_path, mlp):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    assert save(mlp(), path) == path.stat().st_size
    assert load(path).proto == mlp()
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_the_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "f", b"data")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, call):
    (tmp_path / "f").write_bytes(b"old")
    monkeypatch.setattr(os, call, no_space)
    with pytest.raises(DataError, match=r"f: cannot be written: No space left on device"):
        write_atomically(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_an_interrupt_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"old")

    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "f", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("f", b"old")]


def test_files_that_belong_together_are_written_together_or_not_at_all(tmp_path, monkeypatch):
    done = []

    def second_fails(descriptor):
        done.append(descriptor)
        if len(done) == 2:
            no_space()

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(DataError, match="b: cannot be written"):
        write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        write_atomically(tmp_path / "none" / "f", b"data")


def test_the_same_model_gives_the_same_bytes(tmp_path, mlp):
    proto = mlp()
    for key in ("b", "a", "c"):
        entry = proto.metadata_props.add()
        entry.key = entry.value = key
    save(proto, tmp_path / "a")
    save(onnx.load_from_string(proto.SerializeToString()), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
