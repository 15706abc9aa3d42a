"""Live tensors in memory and in files: the same values, and no file that nothing reads any more."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from onnxmi.errors import DataError
from onnxmi.model.temporary import PREFIX
from onnxmi.runtime.live_tensors import LiveTensors
from onnxmi.runtime.spill import SpillFile
from onnxmi.runtime.stepper import Stepper
from tests.support.build import Build


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def written(folder: Path) -> int:
    """How many arrays of seven numbers the files have room for."""
    return sum(path.stat().st_size for path in folder.glob(f"{PREFIX}*/*")) // (7 * 4)


def numbers(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


def test_what_exceeds_the_memory_is_written_and_read_again(tmp_path: Path) -> None:
    live = LiveTensors([{"x": numbers(3, n)} for n in range(5)], memory=2 * 7 * 4)
    for number in range(5):
        live.keep(number, {"a": numbers(7, 10 + number), "unread": numbers(1, 0)}, {"a"})
    assert written(tmp_path) == 3
    for number in range(5):
        assert set(live[number]) == {"a", "x"}
        assert len(live[number]) == 2
        np.testing.assert_array_equal(live[number]["a"], numbers(7, 10 + number))
        np.testing.assert_array_equal(live[number]["x"], numbers(3, number))


def test_dropped_tensors_make_room(tmp_path: Path) -> None:
    live = LiveTensors([{}, {}], memory=7 * 4)
    for number in range(2):
        live.keep(number, {"a": numbers(7, number)}, {"a"})
    assert written(tmp_path) == 1
    for number in range(2):
        live.keep(number, {"b": numbers(7, 20 + number)}, {"b"})
        np.testing.assert_array_equal(live[number]["b"], numbers(7, 20 + number))
        assert set(live[number]) == {"b"}
    assert written(tmp_path) == 1
    live.set(1, "b", numbers(3, 5))
    np.testing.assert_array_equal(live[1]["b"], numbers(3, 5))
    del live
    assert written(tmp_path) == 0


def test_sequences_of_arrays_stay_in_memory(tmp_path: Path) -> None:
    live = LiveTensors([{}], memory=0)
    live.keep(0, {"s": [numbers(7, 0)]}, {"s"})  # type: ignore[dict-item]
    assert isinstance(live[0]["s"], list)
    assert written(tmp_path) == 0


def test_a_model_in_steps_gives_the_same_with_and_without_memory() -> None:
    b = Build(seed=3)
    x = b.input("N", 11)
    first = b.op("Relu", b.gemm(x, 11, 23))
    second = b.op("Relu", b.gemm(first, 23, 19))
    proto = b.proto(b.gemm(b.op("Concat", first, second, axis=1), 42, 5))
    feeds = [{x: numbers(11 * rows, rows).reshape(rows, 11)} for rows in (3, 7, 5)]
    results = []
    for memory in (2**20, 0):
        walk, answers = Stepper(proto, feeds, 1, memory), []
        for tensors in ([first], [second], [proto.graph.output[0].name]):
            if tensors == [second]:
                walk.amend(first, np.full(23, 2, np.float32), np.ones(23, np.float32))
            answers.extend(held[tensors[0]].copy() for held in walk.to(tensors))
        results.append(answers)
    for held, spilled in zip(*results, strict=True):
        np.testing.assert_array_equal(held, spilled)


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.RawIOBase):
        def seek(self, *_: object) -> int:
            return 0

        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    with pytest.raises(DataError, match=r"No space left on device: set TMPDIR"):
        LiveTensors([{}], memory=0).keep(0, {"a": numbers(7, 0)}, {"a"})


def test_room_in_the_file_is_used_again_whatever_the_sizes(tmp_path: Path) -> None:
    file = SpillFile()
    held = [file.write(numbers(7, seed)) for seed in range(5)]
    for one in (held[1], held[3], held[2]):  # in any order: neighbors become one
        file.drop(one)
    wide = file.write(numbers(13, 11)), file.write(numbers(8, 12))
    assert written(tmp_path) == 5
    np.testing.assert_array_equal(file.read(wide[0]), numbers(13, 11))
    np.testing.assert_array_equal(file.read(wide[1]), numbers(8, 12))
    for seed in (0, 4):
        np.testing.assert_array_equal(file.read(held[seed]), numbers(7, seed))


@pytest.mark.parametrize("kind", [np.bool_, np.int64, np.float16, np.float64, "U3"])
def test_all_types_come_back_in_their_shape(kind: object) -> None:
    array = np.arange(30).reshape(2, 3, 5).astype(kind).swapaxes(0, 2)
    file = SpillFile()
    again = file.read(file.write(array))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


def test_a_file_that_was_cut_short_is_one_line(tmp_path: Path) -> None:
    file = SpillFile()
    held = file.write(numbers(7, 0))
    (path,) = tmp_path.glob(f"{PREFIX}*/*")
    os.truncate(path, 5)
    with pytest.raises(DataError, match="cut short"):
        file.read(held)
