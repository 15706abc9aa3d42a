"""Parts of sources: every sample is in one shard, in order, whatever the format; others' samples are not read."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

import onnxmi
from onnxmi.data import stored
from onnxmi.data.shards import Shard
from onnxmi.data.sources import as_calibration
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.transforms.analysis import as_model
from tests.support.build import Build

ROWS, WIDTH = 53, 5


@pytest.fixture(scope="module")
def model():
    b = Build(seed=0)
    return as_model(b.proto(b.gemm(b.input("N", WIDTH), WIDTH, 3)))


def table() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(ROWS, WIDTH)).astype(np.float32)


def name_of(model) -> str:
    return model.graph.inputs[0].name


def parts(source, model, count: int) -> list:
    return [as_calibration(source, model, shard=Shard(index, count)) for index in range(count)]


def write(kind: str, place: Path, model) -> Path:
    data, name = table(), name_of(model)
    labels = np.arange(ROWS)
    if kind == "npz":
        np.savez(place / "all.npz", **{name: data, "labels": labels})
        return place / "all.npz"
    if kind == "npy":
        np.save(place / f"{name}.npy", data)
        np.save(place / "labels.npy", labels)
    elif kind == "archives":
        for number, start in enumerate(range(0, ROWS, 3)):
            rows = slice(start, start + 3)
            np.savez(place / f"{number:03}.npz", **{name: data[rows], "labels": labels[rows]})
    elif kind == "csv":
        head = ",".join([*(f"c{n}" for n in range(WIDTH)), "y"])
        lines = [",".join([*map(repr, map(float, row)), str(label)]) for row, label in zip(data, labels, strict=True)]
        for number, start in enumerate((0, 23)):
            stop = (23, ROWS)[number]
            (place / f"{number}.csv").write_text("\n".join([head, *lines[start:stop]]) + "\n")
    return place


@pytest.mark.parametrize("kind", ["npz", "npy", "archives", "csv"])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_shards_are_the_whole(kind: str, count: int, model, tmp_path: Path) -> None:
    source = write(kind, tmp_path, model)
    samples = onnxmi.source(source, label_column="y") if kind == "csv" else source
    whole, divided = as_calibration(samples, model), parts(samples, model, count)
    name = name_of(model)
    np.testing.assert_array_equal(np.concatenate([np.asarray(part.arrays[name]) for part in divided]), table())
    np.testing.assert_array_equal(np.concatenate([part.labels for part in divided]), whole.labels)
    np.testing.assert_array_equal(np.concatenate([part.fingerprints for part in divided]), whole.fingerprints)
    assert len({part.shard.source for part in divided}) == 1
    assert [part.shards for part in divided] == [count] * count
    assert whole.shards == 1


def test_large_arrays_are_read_in_part(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxmi.data.npz.STAYS", 100)
    source = write("npy", tmp_path, model)
    reads: list[int] = []
    plain = stored._read_at

    def counted(stream, name, into, offset) -> None:
        reads.append(len(into))
        plain(stream, name, into, offset)

    monkeypatch.setattr(stored, "_read_at", counted)
    part = as_calibration(source, model, shard=Shard(2, 10))
    own, largest = part.fingerprints.tolist(), max(reads)
    assert largest <= 5 * WIDTH * 4
    assert own == as_calibration(source, model).fingerprints[10:15].tolist()


def test_only_own_files_are_opened(model, tmp_path: Path) -> None:
    source = write("archives", tmp_path, model)
    for path in sorted(source.iterdir())[:9]:
        path.write_bytes(b"damaged, and as if it were on a disk that is not there")
    last = as_calibration(source, model, shard=Shard(1, 2))
    np.testing.assert_array_equal(np.asarray(last.arrays[name_of(model)]), table()[27:])


def test_only_row_groups_of_a_shard_are_read(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {f"c{n}": table()[:, n] for n in range(WIDTH)}
    parquet.write_table(arrow.table(columns), tmp_path / "rows.parquet", row_group_size=7)
    groups: list[list[int]] = []
    plain = parquet.ParquetFile.iter_batches

    def noted(self, *args, row_groups=None, **settings):
        groups.append(row_groups)
        return plain(self, *args, row_groups=row_groups, **settings)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noted)
    divided = parts(tmp_path / "rows.parquet", model, 5)
    arrays = [np.asarray(part.arrays[name_of(model)]) for part in divided]
    np.testing.assert_array_equal(np.concatenate(arrays), table())
    assert groups[1] == [1, 2]  # rows 10 to 20 of groups of 7


def test_an_input_for_all_samples_stays_whole_in_a_shard_as_long_as_it_is() -> None:
    """A shard of so many samples must not take a table of as many rows for samples."""
    b = Build(seed=0)
    x, fixed = b.input("N", WIDTH), b.input(3, WIDTH, name="fixed")
    model = as_model(b.proto(b.op("MatMul", x, b.op("Transpose", fixed, perm=[1, 0]))))
    first, second = (info.name for info in model.graph.inputs)
    arrays = {first: table()[:12], second: np.ones((3, WIDTH), np.float32)}
    part = as_calibration(arrays, model, shard=Shard(1, 4))
    assert part.count == 3
    assert part.whole == {second}


def test_windows_of_one_sound_stay_together(tmp_path: Path) -> None:
    b = Build(seed=0)
    model = as_model(b.proto(b.gemm(b.input("N", 7), 7, 3)))
    for number in range(3):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.arange(21, dtype="<i2").tobytes())
    assert [part.count for part in parts(tmp_path, model, 3)] == [3, 3, 3]
    with pytest.raises(CalibrationError, match="give as many files as shards"):
        as_calibration(tmp_path, model, shard=Shard(0, 4))


def test_more_shards_than_samples_are_refused(model, tmp_path: Path) -> None:
    source = write("npz", tmp_path, model)
    with pytest.raises(CalibrationError, match="shard 0/54 has no samples: there are 53"):
        as_calibration(source, model, shard=Shard(0, 54))
    csv = tmp_path / "csv"
    csv.mkdir()
    with pytest.raises(CalibrationError, match="has no rows: there are 53"):
        as_calibration(write("csv", csv, model), model, shard=Shard(0, 54))


def test_texts_that_each_shard_would_pad_otherwise_are_refused(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "texts.txt").write_text("a b\nb a c\n")
    b = Build(seed=0)
    ids = b.input("N", "S", name="ids", dtype=np.int64)
    model = as_model(b.proto(b.op("Gather", b.const(np.ones((3, 5), np.float32)), ids, axis=0)))
    samples = onnxmi.source(tmp_path / "texts.txt", tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(UsageError, match="padded to its own longest"):
        as_calibration(samples, model, shard=Shard(0, 2))
