"""Statistics files: what is written is read, shards add up to the whole, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import onnxmi
from onnxmi import PruneOptions
from onnxmi.cli import main
from onnxmi.data.splits import split_samples
from onnxmi.errors import StatisticsError, UsageError
from onnxmi.statistics.merging import merge_files
from onnxmi.statistics.statistics_file import StatisticsFile, load_statistics, save_statistics
from tests.statistics.conftest import image_arrays, image_model, small_case
from tests.statistics.test_capture import assert_alike

QUICK = PruneOptions(keep=0.5, threads=1, latency=False)
COUNT = 250  # so few that every row is measured


def assert_same(left: StatisticsFile, right: StatisticsFile, tolerance: float = 1e-5) -> None:
    assert left.digest == right.digest
    assert left.options == right.options
    np.testing.assert_array_equal(left.prints, right.prints)
    assert left.samples == right.samples
    assert_alike(left.fit, right.fit, tolerance)
    assert left.validation is not None
    assert right.validation is not None
    assert_alike(left.validation, right.validation, tolerance)


def part(arrays: dict, chosen: slice) -> dict:
    return {name: array[chosen] for name, array in arrays.items()}


@pytest.fixture(scope="module", params=["tokens", "images"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with calibration samples, whole and in two parts, and what is measured on each."""
    place = tmp_path_factory.mktemp(request.param)
    proto, arrays = small_case(request.param, COUNT)
    onnx.save(proto, place / "model.onnx")
    for name, chosen in (("all", slice(None)), ("a", slice(0, 110)), ("b", slice(110, None))):
        np.savez(place / f"{name}.npz", **part(arrays, chosen))
        measured = onnxmi.collect(place / "model.onnx", place / f"{name}.npz", QUICK)
        save_statistics(measured, place / f"{name}.stats.npz")
    return place


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(folder / a) if (folder / a).exists() else a for a in arguments])
    return result.exit_code, result.output


# -- round trip --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(folder: Path) -> None:
    measured = onnxmi.collect(folder / "model.onnx", folder / "all.npz", QUICK)
    read = load_statistics(folder / "all.stats.npz")
    assert_same(measured, read, tolerance=0.0)
    for name, one in (("read", read), ("measured", measured)):
        save_statistics(one, folder / f"{name}.stats.npz")
        assert (folder / f"{name}.stats.npz").read_bytes() == (folder / "all.stats.npz").read_bytes()


def test_pruning_with_a_file_is_pruning_without(folder: Path) -> None:
    paths = folder / "model.onnx", folder / "all.npz"
    plain = onnxmi.prune(*paths, QUICK)
    again = onnxmi.prune(*paths, QUICK, statistics=folder / "all.stats.npz")
    assert plain.proto.SerializeToString() == again.proto.SerializeToString()
    assert plain.plan.to_json() == again.plan.to_json()
    assert any(note.startswith("statistics of") for note in again.notes)


# -- adding up ---------------------------------------------------------------------------------------------------------


def test_parts_add_up_to_the_whole(folder: Path) -> None:
    whole = load_statistics(folder / "all.stats.npz")
    for order in (("a", "b"), ("b", "a")):
        merged = merge_files([folder / f"{name}.stats.npz" for name in order])
        assert_same(merged, whole)


def test_a_sample_has_the_same_part_in_every_file(folder: Path) -> None:
    model = onnxmi.load(folder / "model.onnx")
    data = {name: onnxmi.load_calibration(folder / f"{name}.npz", model.graph) for name in ("all", "a", "b")}
    splits = {name: split_samples(found, 0) for name, found in data.items()}
    for kind in ("fit", "validation", "test"):
        prints = {name: set(data[name].fingerprints[getattr(splits[name], kind)].tolist()) for name in data}
        assert prints["all"] == prints["a"] | prints["b"]


def test_the_held_back_samples_are_not_measured(folder: Path) -> None:
    result = onnxmi.prune(folder / "model.onnx", folder / "b.npz", QUICK, statistics=folder / "all.stats.npz")
    assert not any("test samples are already in the statistics" in note for note in result.notes)


def test_equal_samples_are_never_on_both_sides() -> None:
    model = onnxmi.analyse(image_model()).model
    once = image_arrays(40)
    data = onnxmi.check_calibration({name: np.repeat(array, 5, axis=0) for name, array in once.items()}, model.graph)
    split = split_samples(data, 0)
    sides = [set(data.fingerprints[samples].tolist()) for samples in (split.fit, split.validation, split.test)]
    assert sum(map(len, sides)) == 40


# -- the command line --------------------------------------------------------------------------------------------------


def test_the_commands(folder: Path) -> None:
    code, text = run(folder, "capture", "model.onnx", "a.npz", "-o", str(folder / "again.npz"), "--threads", "1")
    assert code == 0, text
    assert (folder / "again.npz").read_bytes() == (folder / "a.stats.npz").read_bytes()
    code, text = run(folder, "merge", "a.stats.npz", "b.stats.npz", "-o", str(folder / "m.npz"), "--json")
    assert code == 0, text
    assert json.loads(text)["samples"] == load_statistics(folder / "all.stats.npz").samples
    out = str(folder / "small.onnx")
    code, text = run(folder, "prune", "model.onnx", "all.npz", "--stats", str(folder / "m.npz"), "-o", out)
    assert code == 0, text
    assert "note: statistics of" in text


def test_memory_and_mask_are_options(folder: Path) -> None:
    out = str(folder / "passes.npz")
    code, text = run(folder, "capture", "model.onnx", "a.npz", "-o", out, "--threads", "1", "--memory", "10kB")
    assert code == 0, text
    assert_same(load_statistics(out), load_statistics(folder / "a.stats.npz"), tolerance=0.0)
    for wrong in ("lots", "0", "-1GB", "4XB"):
        assert run(folder, "capture", "model.onnx", "a.npz", "-o", out, "--memory", wrong)[0] == 2
    code, text = run(folder, "capture", "model.onnx", "a.npz", "-o", out, "--mask", "nonsense")
    assert (code, text.count("\n")) == (2, 1)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prune", "model.onnx", "all.npz", "--stats", "other.npz"), "a model with digest"),
        (("prune", "model.onnx", "all.npz", "--stats", "all.stats.npz", "--seed", "1"), "measured with seed 0, not 1"),
        (("prune", "model.onnx", "all.npz", "--stats", "none.npz"), "cannot be read"),
        (("prune", "model.onnx", "all.npz", "--stats", "all.npz"), "is not a statistics file"),
        (("prune", "model.onnx", "all.npz", "--stats", "model.onnx"), "is not a statistics file"),
        (("prune", "model.onnx", "all.npz", "--stats", "old.npz"), "has schema 0"),
        (("merge", "a.stats.npz", "other.npz", "-o", "x.npz"), "a model with digest"),
        (("merge", "a.stats.npz", "seed.npz", "-o", "x.npz"), "measured with seed"),
        (("merge", "a.stats.npz", "a.stats.npz", "-o", "x.npz"), "already in"),
        (("merge", "cut.npz", "-o", "x.npz"), "is not a statistics file"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    whole = load_statistics(folder / "a.stats.npz")
    save_statistics(StatisticsFile("0" * 64, whole.fit, whole.validation, whole.options), folder / "other.npz")
    changed = {**whole.options, "seed": 5}
    save_statistics(StatisticsFile(whole.digest, whole.fit, whole.validation, changed), folder / "seed.npz")
    data = (folder / "a.stats.npz").read_bytes()
    (folder / "cut.npz").write_bytes(data[: len(data) // 2])
    with np.load(folder / "a.stats.npz") as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes()) | {"schema": 0}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(folder / "old.npz", **arrays)
    code, text = run(folder, *arguments)
    assert code == 3, text
    assert text.startswith("onnxmi: error: ")
    assert text.count("\n") == 1
    assert words in text


def test_numbers_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    with np.load(folder / "a.stats.npz") as archive:
        arrays = dict(archive)
    for name, value in (("fit/sources/0/mean", np.nan), ("fit/sources/0/scatter", np.inf)):
        spoilt = arrays | {name: np.full_like(arrays[name], value)}
        np.savez(tmp_path / "spoilt.npz", **spoilt)
        with pytest.raises(StatisticsError, match="not finite"):
            load_statistics(tmp_path / "spoilt.npz")


def test_a_file_holds_no_histograms(folder: Path) -> None:
    options = PruneOptions(keep=0.5, score="pairwise", estimator="binned", threads=1, latency=False)
    with pytest.raises(UsageError, match="binned"):
        onnxmi.prune(folder / "model.onnx", folder / "all.npz", options, statistics=folder / "all.stats.npz")


def test_labels_are_no_target_where_there_are_none(folder: Path) -> None:
    model = onnxmi.load(folder / "model.onnx")
    arrays = {name: array for name, array in np.load(folder / "all.npz").items() if name != "labels"}
    with pytest.raises(UsageError, match="no labels"):
        onnxmi.prune(model, arrays, PruneOptions(keep=0.5, target="labels", threads=1, latency=False))
