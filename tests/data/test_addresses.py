"""Samples at an address: what fsspec opens is read as a path is, and each shard's own files alone are fetched."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxmi
from onnxmi.data import stored
from onnxmi.data.shards import Shard
from onnxmi.data.sources import address_of, as_calibration
from onnxmi.errors import CalibrationError, UsageError
from tests.data.test_shards import model, name_of, parts, table, write

fsspec = pytest.importorskip("fsspec", reason="fsspec is in the extra `remote`")

__all__ = ["model"]


@pytest.fixture
def bucket() -> Any:
    """A store in this process's memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    return system


def uploaded(place: Path, bucket: Any) -> str:
    for file in [place] if place.is_file() else sorted(place.rglob("*.*")):
        inner = file.name if place.is_file() else file.relative_to(place).as_posix()
        bucket.pipe_file(f"/samples/{inner}", file.read_bytes())
    return f"memory://samples/{place.name}" if place.is_file() else "memory://samples"


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("s3://bucket/x.npz", "s3://bucket/x.npz"),
        (Path("s3://bucket/folder"), "s3://bucket/folder"),
        (Path("file:///data/x.npz"), "file:///data/x.npz"),
        ("memory:///a/b", "memory:///a/b"),
        ("calib.npz", None),
        ("/data/a:b/c.npz", None),
        ("C:/data/x.npz", None),
    ],
)
def test_what_an_address_is(path: str | Path, address: str | None) -> None:
    assert address_of(path) == address


def test_a_folder_of_such_a_name_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert address_of("s3://bucket") is None


@pytest.mark.parametrize("kind", ["npz", "npy", "archives", "csv"])
@pytest.mark.parametrize("count", [1, 4])
def test_shards_are_those_of_the_same_files_here(
    kind: str, count: int, model: Any, bucket: Any, tmp_path: Path
) -> None:
    place = write(kind, tmp_path, model)
    how = {"label_column": "y"} if kind == "csv" else {}
    here, there = (parts(onnxmi.source(where, **how), model, count) for where in (place, uploaded(place, bucket)))
    name = name_of(model)
    assert [part.shard for part in there] == [part.shard for part in here]
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(np.asarray(one.arrays[name]), np.asarray(other.arrays[name]))
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.fingerprints, other.fingerprints)


def test_only_own_files_are_fetched(model: Any, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, fetched = uploaded(write("archives", tmp_path, model), bucket), []
    get_file = type(bucket).get_file

    def noted(self: Any, name: str, *rest: Any, **how: Any) -> Any:
        fetched.append(name)
        return get_file(self, name, *rest, **how)

    monkeypatch.setattr(type(bucket), "get_file", noted)
    for index in range(4):
        as_calibration(address, model, shard=Shard(index, 4))
    assert sorted(fetched) == sorted(bucket.find("/samples"))


def test_fetched_files_live_as_long_as_the_samples(
    model: Any, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large arrays are read where they are used; then nothing stays on the disk."""
    monkeypatch.setattr("onnxmi.data.npz.STAYS", 1)
    monkeypatch.setattr(stored, "LARGE", 1)
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    (tmp_path / "source").mkdir()
    data = as_calibration(uploaded(write("npz", tmp_path / "source", model), bucket), model)
    gc.collect()
    np.testing.assert_array_equal(np.asarray(data.arrays[name_of(model)]), table())
    assert list(place.rglob("*.npz"))
    del data
    gc.collect()
    assert not list(place.rglob("*.npz"))


def test_what_is_wrong_is_said_of_the_address(model: Any, bucket: Any) -> None:
    bucket.pipe_file("/samples/x.npz", b"no archive")
    with pytest.raises(CalibrationError, match=r"memory://samples/x\.npz") as caught:
        as_calibration("memory://samples/x.npz", model)
    assert ".onnxmi-" not in str(caught.value)
    with pytest.raises(CalibrationError, match="memory://nothing"):
        as_calibration("memory://nothing", model)
    with pytest.raises(UsageError, match=r"nowhere://x: .*not known"):
        as_calibration("nowhere://x", model)
