"""Shards: parts of a source measured apart add up, in any order, to the same bytes; what does not belong is named."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi import PruneOptions
from onnxmi.data.shards import Shard, parse_shard
from onnxmi.data.sources import as_calibration
from onnxmi.data.splits import LotLimits, split_samples, split_shard
from onnxmi.errors import OnnxmiError, StatisticsError, UsageError
from onnxmi.information.fixed_tree import add_in_tree
from onnxmi.pruning.shards import capture_shard
from onnxmi.statistics import merging
from onnxmi.statistics.merging import merge_files, merge_to
from onnxmi.statistics.statistics_file import StatisticsFile, load_statistics, save_statistics
from tests.statistics.conftest import image_arrays, image_model, small_case, token_arrays, token_model
from tests.statistics.test_capture import assert_alike

QUICK = PruneOptions(keep=0.5, threads=1, latency=False)
COUNT, SHARDS = 239, 7  # so few that every row is measured


@pytest.fixture(scope="module", params=["tokens", "images"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its samples in one file, and the files of all shards."""
    place = tmp_path_factory.mktemp(request.param)
    proto, arrays = small_case(request.param, COUNT)
    onnx.save(proto, place / "model.onnx")
    np.savez(place / "all.npz", **arrays)
    for index in range(SHARDS):
        capture(place, index)
    return place


def capture(
    place: Path, index: int, options: PruneOptions = QUICK, to: Path | None = None, count: int = SHARDS
) -> Path:
    target = to or place / f"s_{index}.npz"
    capture_shard(onnxmi.load(place / "model.onnx"), place / "all.npz", Shard(index, count), target, options)
    return target


def shards(folder: Path) -> list[Path]:
    return [folder / f"s_{index}.npz" for index in range(SHARDS)]


# -- adding up ---------------------------------------------------------------------------------------------------------


def test_any_order_gives_the_same_bytes_and_what_one_measurement_gives(folder: Path, tmp_path: Path) -> None:
    written = set()
    for seed in range(3):
        paths = shards(folder)
        random.Random(seed).shuffle(paths)
        merge_to(paths, tmp_path / "sum.npz")
        written.add((tmp_path / "sum.npz").read_bytes())
    assert len(written) == 1
    whole, merged = (
        onnxmi.collect(folder / "model.onnx", folder / "all.npz", QUICK),
        load_statistics(tmp_path / "sum.npz"),
    )
    np.testing.assert_array_equal(merged.prints, whole.prints)
    assert (merged.digest, merged.options, merged.samples) == (whole.digest, whole.options, whole.samples)
    assert_alike(merged.fit, whole.fit, 1e-5)
    assert merged.validation is not None
    assert whole.validation is not None
    assert_alike(merged.validation, whole.validation, 1e-5)


def test_blocks_of_rows_give_the_bits_of_whole_matrices(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_to(shards(folder), tmp_path / "whole.npz")
    monkeypatch.setattr(merging, "BLOCK", 500)
    merge_to(shards(folder), tmp_path / "blocks.npz")
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "blocks.npz").read_bytes()
    parts = [load_statistics(path) for path in shards(folder)]
    in_memory = add_in_tree(parts, StatisticsFile.merge)
    merged = load_statistics(tmp_path / "blocks.npz")
    for key, moments in in_memory.fit.sources.items():
        np.testing.assert_array_equal(moments.scatter, merged.fit.sources[key].scatter)
        np.testing.assert_array_equal(moments.mean, merged.fit.sources[key].mean)


def test_the_sum_is_used_as_one_measurement_is(folder: Path) -> None:
    merged = merge_files(shards(folder))
    options = PruneOptions(keep=0.5, threads=1, latency=False, sensitivity=False, repair=False, force=True)
    plain = onnxmi.prune(folder / "model.onnx", folder / "all.npz", options)
    by_sum = onnxmi.prune(folder / "model.onnx", folder / "all.npz", options, statistics=merged)
    for one, other in zip(by_sum.plan.choices, plain.plan.choices, strict=True):
        np.testing.assert_array_equal(one.kept, other.kept)
    assert not any("already in the statistics" in note for note in by_sum.notes)


def test_shards_draw_together_what_one_measurement_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows, images and backward passes alike: the hash of each is held against the same share."""
    monkeypatch.setattr("onnxmi.statistics.capture.ROWS", 997)
    monkeypatch.setattr("onnxmi.statistics.capture.ROWS_PER_FEATURE", 1)
    monkeypatch.setattr("onnxmi.statistics.capture.PATCHES", 797)
    monkeypatch.setattr("onnxmi.statistics.output_sensitivity.SAMPLES", 61)
    onnx.save(image_model((9, 7)), tmp_path / "model.onnx")
    np.savez(tmp_path / "all.npz", **image_arrays(COUNT, (9, 7)))
    whole = onnxmi.collect(tmp_path / "model.onnx", tmp_path / "all.npz", QUICK)
    merged = merge_files([capture(tmp_path, index) for index in range(SHARDS)])
    for key, moments in whole.fit.sources.items():
        assert 0.7 < merged.fit.sources[key].count / moments.count < 1.4, key
    for key, sensitivity in whole.fit.sensitivities.items():
        assert 0.5 < merged.fit.sensitivities[key].count / sensitivity.count < 1.6, key


def test_shards_that_draw_nothing_add_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of shards of one or two samples, many have no fit sample and none for the backward pass."""
    onnx.save(token_model(), tmp_path / "model.onnx")
    np.savez(tmp_path / "all.npz", **token_arrays(19))
    monkeypatch.setattr("onnxmi.statistics.output_sensitivity.SAMPLES", 7)
    paths = [capture(tmp_path, index, count=19) for index in range(19)]
    parts = [load_statistics(path) for path in paths]
    assert any(part.fit.samples == 0 for part in parts)
    assert any(part.fit.samples and not part.fit.went_back for part in parts)
    merged = merge_files(paths)
    assert merged.fit.samples == sum(part.fit.samples for part in parts)
    told = [part.fit for part in parts if part.fit.samples and part.fit.went_back]
    assert merged.fit.sensitivities.keys() == told[0].sensitivities.keys() != set()
    assert merged.fit.classes.keys() == told[0].classes.keys()


# -- starting again ----------------------------------------------------------------------------------------------------


def test_a_finished_shard_is_not_measured_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shards(folder)[2].read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("onnxmi.pruning.shards.collect_from", fails)
    assert capture(folder, 2).read_bytes() == before


@pytest.mark.parametrize("change", ["model", "samples", "options", "index", "count", "damaged", "other"])
def test_what_differs_is_measured_again(folder: Path, tmp_path: Path, change: str) -> None:
    for name in ("model.onnx", "all.npz", "s_2.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    target, options, index, count = tmp_path / "s_2.npz", QUICK, 2, SHARDS
    if change == "model":
        proto = onnx.load(tmp_path / "model.onnx")
        proto.doc_string = "another"
        onnx.save(proto, tmp_path / "model.onnx")
    elif change == "samples":
        arrays = {name: array.copy() for name, array in np.load(tmp_path / "all.npz").items()}
        first = next(name for name, array in arrays.items() if array.dtype.kind == "f")
        arrays[first][COUNT * 2 // SHARDS + 1] += 1e-3
        np.savez(tmp_path / "all.npz", **arrays)
    elif change == "options":
        options = PruneOptions(keep=0.5, threads=1, latency=False, seed=1)
    elif change == "index":
        index = 3
    elif change == "count":
        count = 8
    elif change == "damaged":
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 1
        target.write_bytes(data)
    else:
        target.write_bytes((folder / "model.onnx").read_bytes())
    before = target.read_bytes()
    capture(tmp_path, index, options, target, count)
    record = load_statistics(target).shard
    assert target.read_bytes() != before
    assert record is not None
    assert (record.shard.index, record.shard.count) == (index, count)


# -- refusals ----------------------------------------------------------------------------------------------------------


def refusal(paths: list[Path]) -> str:
    with pytest.raises(StatisticsError) as caught:
        merge_files(paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_missing_or_there_twice_is_named(folder: Path) -> None:
    paths = shards(folder)
    assert refusal(paths[:3] + paths[5:]) == "2 of 7 shards are missing: 3, 4"
    assert refusal([*paths, paths[3]]).endswith("s_3.npz: both are shard 3/7")


def test_what_was_measured_otherwise_is_named(folder: Path, tmp_path: Path) -> None:
    whole = onnxmi.collect(folder / "model.onnx", folder / "all.npz", QUICK)
    save_statistics(whole, tmp_path / "whole.npz")
    assert "s_1.npz" in refusal([tmp_path / "whole.npz", shards(folder)[1]])
    eighth = capture(folder, 1, to=tmp_path / "eighth.npz", count=8)
    assert "eighth.npz" in refusal([*shards(folder), eighth])
    batches = PruneOptions(keep=0.5, threads=1, latency=False, batch_size=17)
    other = capture(folder, 1, batches, tmp_path / "batches.npz")
    message = refusal([shards(folder)[0], other, *shards(folder)[2:]])
    assert "batches.npz" in message
    assert "measured with batch_size 17, not 32" in message


def test_a_source_that_has_changed_is_named(folder: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(folder / "all.npz"))
    np.savez(tmp_path / "all.npz", **{name: array[:-1] for name, array in arrays.items()})
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    changed = capture(tmp_path, 4)
    assert "another source" in refusal([*shards(folder)[:4], changed, *shards(folder)[5:]])


def test_a_changed_bit_is_named(folder: Path, tmp_path: Path) -> None:
    data = bytearray(shards(folder)[4].read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.npz").write_bytes(data)
    assert "bad.npz: is not a statistics file" in refusal([*shards(folder)[:4], tmp_path / "bad.npz"])


def test_one_shard_is_no_statistics_to_prune_with(folder: Path) -> None:
    with pytest.raises(StatisticsError, match=r"s_1\.npz: has shard 1/7 alone"):
        onnxmi.prune(folder / "model.onnx", folder / "all.npz", QUICK, statistics=shards(folder)[1])


@pytest.mark.parametrize("text", ["3", "3/3", "-1/3", "a/b", "1/0", "1/2/3", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 0/8 to 7/8"):
        parse_shard(text)


# -- splitting ---------------------------------------------------------------------------------------------------------


def test_a_sample_has_the_same_part_in_its_shard_as_in_the_whole(folder: Path) -> None:
    model = onnxmi.load(folder / "model.onnx")
    whole = as_calibration(folder / "all.npz", model)
    split = split_samples(whole, 0)
    for kind in ("fit", "validation", "test"):
        prints: list[int] = []
        for index in range(SHARDS):
            part = as_calibration(folder / "all.npz", model, shard=Shard(index, SHARDS))
            prints += part.fingerprints[getattr(split_shard(part, 0, LotLimits()), kind)].tolist()
        assert prints == whole.fingerprints[getattr(split, kind)].tolist()


def test_the_header_says_nothing_of_where_files_are(folder: Path) -> None:
    with np.load(shards(folder)[0]) as archive:
        header = json.loads(archive["header"].tobytes())
    assert str(folder) not in json.dumps(header)
    assert header["shard"]["index"] == 0


def test_samples_that_follow_each_other_are_not_divided(folder: Path) -> None:
    samples = onnxmi.source(folder / "all.npz", sequences=True)
    with pytest.raises(OnnxmiError, match="follow each other"):
        as_calibration(samples, onnxmi.load(folder / "model.onnx"), shard=Shard(0, 2))
