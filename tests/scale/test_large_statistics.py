"""Statistics files larger than the memory should be: written and read an array at a time, and still checked."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from onnxmi.errors import DataError, StatisticsError
from onnxmi.information import Moments
from onnxmi.statistics.merging import merge_files
from onnxmi.statistics.statistics import Statistics
from onnxmi.statistics.statistics_file import StatisticsFile, load_statistics, save_statistics

FEATURES, SOURCES = 809, 7
BYTES = 8 * FEATURES**2  # of one source: more than stays in memory when the file is read


def measurement(seed: int = 0, prints: int = 0) -> StatisticsFile:
    rng = np.random.default_rng(seed)
    sources = {
        f"s{i}": Moments(5, rng.normal(size=(1, FEATURES)), rng.normal(size=(1, FEATURES, FEATURES)))
        for i in range(SOURCES)
    }
    fit = Statistics(sources, {f"k{i}": f"s{i}" for i in range(SOURCES)}, 5)
    return StatisticsFile("0" * 64, fit, None, {}, np.arange(prints, prints + 5, dtype=np.uint64))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.stats.npz"
    save_statistics(measurement(), path)
    return path


def test_a_file_is_not_put_together_in_memory(tmp_path: Path) -> None:
    one = measurement()
    tracemalloc.start()
    try:
        size = save_statistics(one, tmp_path / "f.npz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == (tmp_path / "f.npz").stat().st_size > SOURCES * BYTES
    assert peak < 2 * BYTES + 2**20


def test_large_arrays_stay_in_the_file(written: Path) -> None:
    tracemalloc.start()
    try:
        read = load_statistics(written)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < BYTES
    for key, moments in measurement().fit.sources.items():
        scatter = read.fit.sources[key].scatter
        assert isinstance(scatter.base, np.memmap)
        np.testing.assert_array_equal(scatter, moments.scatter)
        np.testing.assert_array_equal(read.fit.sources[key].mean, moments.mean)


def test_what_is_mapped_is_what_numpy_reads(written: Path, tmp_path: Path) -> None:
    """A local extra field of another length than the directory's, and arrays by columns, move and turn the numbers."""
    with np.load(written) as archive:
        arrays = dict(archive)
    arrays["fit/sources/1/scatter"] = np.asfortranarray(arrays["fit/sources/1/scatter"][0])[None]
    np.savez(tmp_path / "other.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    for name in ("other.npz", "packed.npz"):
        read = load_statistics(tmp_path / name)
        for key, moments in measurement().fit.sources.items():
            np.testing.assert_array_equal(read.fit.sources[key].scatter, moments.scatter)


def test_a_changed_bit_is_found(written: Path, tmp_path: Path) -> None:
    data = bytearray(written.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(StatisticsError, match=r"bad\.npz: is not a statistics file"):
        load_statistics(tmp_path / "bad.npz")


def test_the_result_may_replace_what_was_merged(written: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(written.read_bytes())
    save_statistics(measurement(1, prints=5), tmp_path / "b.npz")
    merged = merge_files([tmp_path / "a.npz", tmp_path / "b.npz"])
    save_statistics(merged, tmp_path / "a.npz")
    again = load_statistics(tmp_path / "a.npz")
    assert again.samples == 10
    np.testing.assert_array_equal(again.fit.sources["s3"].scatter, merged.fit.sources["s3"].scatter)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(DataError, match="No space left on device"):
        save_statistics(measurement(), tmp_path / "f.npz")
    assert list(tmp_path.iterdir()) == []
