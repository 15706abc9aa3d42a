"""What is kept between runs: another budget goes on from it, anything else does not, and the bytes are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.model.save import write_atomically
from onnxmi.pruning import run_cache, sizing
from onnxmi.pruning import session as sessions
from onnxmi.runtime.cache_folder import cache_entries
from tests.support.build import Build


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXMI_CACHE", str(tmp_path))
    return tmp_path / run_cache.FOLDER


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured, in order."""
    calls: list[str] = []
    statistics, curves = sessions.measure_statistics, sizing.measure_damage_curves

    def measure_statistics(*args, **kwargs):
        calls.append("statistics")
        return statistics(*args, **kwargs)

    def measure_damage_curves(*args, **kwargs):
        for layer, curve in curves(*args, **kwargs):
            calls.append("curve")
            yield layer, curve

    monkeypatch.setattr(sessions, "measure_statistics", measure_statistics)
    monkeypatch.setattr(sizing, "measure_damage_curves", measure_damage_curves)
    return calls


def model() -> onnx.ModelProto:
    b = Build(seed=3)
    hidden = b.op("Relu", b.gemm(b.input("N", 11), 11, 23))
    return b.proto(b.gemm(b.op("Relu", b.gemm(hidden, 23, 19)), 19, 5))


def samples(seed: int = 7) -> dict[str, np.ndarray]:
    return {"x0": np.random.default_rng(seed).normal(size=(211, 11)).astype(np.float32)}


def run(proto: onnx.ModelProto | None = None, seed: int = 7, **options) -> onnxmi.Result:
    proto = model() if proto is None else proto
    arrays = {proto.graph.input[0].name: samples(seed)["x0"]}
    return onnxmi.prune(proto, arrays, threads=1, latency=False, **options)


FIRST = ["statistics", "curve", "curve"]
NOTE = "statistics and damage of an earlier run were used (--fresh measures them anew)"


def test_another_budget_measures_nothing_and_gives_the_same_bytes(measured: list[str]) -> None:
    first = run(macs=0.7)
    assert measured == FIRST
    assert NOTE not in first.notes
    again, other = run(macs=0.7), run(macs=0.5)
    assert measured == FIRST
    assert NOTE in again.notes
    assert NOTE in other.notes
    fresh = run(macs=0.5, fresh=True)
    assert measured == FIRST * 2
    assert NOTE not in fresh.notes
    assert again.proto.SerializeToString() == first.proto.SerializeToString()
    assert other.proto.SerializeToString() == fresh.proto.SerializeToString()


def test_a_convolutional_model_has_the_same_bytes_though_its_rows_are_weighted_elsewhere() -> None:
    """Without a cache the prediction of damage finds the weights of rows, with it the repair does."""
    b = Build(seed=5)
    x = b.op("Relu", b.conv(b.input("N", 3, 7, 5), 3, 19, (3, 3)))
    x = b.op("Relu", b.conv(x, 19, 17, (3, 3)))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    proto = b.proto(b.gemm(pooled, 17, 4))
    arrays = {proto.graph.input[0].name: np.random.default_rng(3).normal(size=(307, 3, 7, 5)).astype(np.float32)}
    first, again = (onnxmi.prune(proto, arrays, threads=1, latency=False, macs=0.5, force=True) for _ in range(2))
    assert NOTE in again.notes
    assert NOTE not in first.notes
    assert again.proto.SerializeToString() == first.proto.SerializeToString()


@pytest.mark.parametrize(
    "changed",
    [{"score": "magnitude"}, {"sensitivity": False}, {"batch_size": 16}, {"only": "*"}, {"align": 2}],
    ids=str,
)
def test_what_measurements_depend_on_is_measured_anew(measured: list[str], changed: dict) -> None:
    run(macs=0.7)
    measured.clear()
    run(macs=0.7, **changed)
    assert measured == FIRST


def test_other_samples_are_measured_anew(measured: list[str]) -> None:
    run(macs=0.7)
    measured.clear()
    run(seed=8, macs=0.7)
    assert measured == FIRST


def test_an_interrupted_run_is_gone_on_with(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "SECONDS_BETWEEN_WRITES", -1.0)
    whole = run(macs=0.7, fresh=True)
    measured.clear()

    def stop(stage: str, done: int, _total: int) -> None:
        if stage == "price" and done == 1:
            raise KeyboardInterrupt

    proto = model()
    arrays = {proto.graph.input[0].name: samples()["x0"]}
    with pytest.raises(KeyboardInterrupt):
        onnxmi.prune(proto, arrays, threads=1, latency=False, macs=0.7, progress=stop)
    again = run(macs=0.7)
    assert measured == FIRST
    assert again.proto.SerializeToString() == whole.proto.SerializeToString()


@pytest.mark.parametrize("name", ["statistics.npz", "damage.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b'{"0": 3}'], ids=["empty", "list", "wrong"])
def test_a_damaged_file_is_measured_anew(cache: Path, measured: list[str], name: str, content: bytes) -> None:
    first = run(macs=0.7)
    measured.clear()
    (folder,) = (entry.path for entry in cache_entries(cache))
    (folder / name).write_bytes(content)
    assert run(macs=0.7).proto.SerializeToString() == first.proto.SerializeToString()
    assert measured == (["statistics"] if name == "statistics.npz" else ["curve"] * 2)


def test_a_folder_that_cannot_be_written_is_none(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ONNXMI_CACHE", str(tmp_path / "file"))
    assert run(macs=0.7).proto.SerializeToString() == run(macs=0.7).proto.SerializeToString()
    assert measured == FIRST * 2


def test_runs_that_were_not_used_for_longest_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (1, 2, 3):
        run(seed=seed, macs=0.7)
    sizes = [entry.size for entry in cache_entries(cache)]
    assert len(sizes) == 3
    kept = cache_entries(cache)[0].path
    monkeypatch.setattr(run_cache, "MOST_BYTES", sizes[0])
    run_cache._make_room()
    assert [entry.path for entry in cache_entries(cache)] == [kept]


def test_given_statistics_are_no_part_of_it(cache: Path, tmp_path: Path, measured: list[str]) -> None:
    run(macs=0.7)
    (folder,) = (entry.path for entry in cache_entries(cache))
    write_atomically(tmp_path / "s.npz", (folder / "statistics.npz").read_bytes())
    measured.clear()
    run(macs=0.7, statistics=tmp_path / "s.npz")
    assert measured == ["curve", "curve"]
