"""`onnxmi calib`: what it writes is what other commands read; random samples are marked wherever they lead."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.data import stored
from tests.support.build import Build
from tests.support.interfaces import taking_types

SAID = "calibrated on random data"


def test_it_writes_what_is_read_and_shows_the_first_sample(place, samples):
    x = samples(11)
    np.save(place.folder / "any.npy", x)
    shown = place.succeeds("calib", "model.onnx", "any.npy", "-o", "out.npz")
    assert "11 samples" in shown
    assert f"x: float32 (1, 6), {x[0].min():.4g} to {x[0].max():.4g}" in shown
    with np.load(place.folder / "out.npz") as written:
        assert written.files == ["x"]
        assert np.array_equal(written["x"], x)


def test_the_only_array_is_the_only_input(place, samples):
    np.savez(place.folder / "other.npz", images=samples(), labels=np.arange(40) % 4)
    assert "no array named 'x'" in place.fails(3, "inspect", "model.onnx", "other.npz")
    found = json.loads(place.succeeds("calib", "model.onnx", "other.npz", "-o", "out.npz", "--json"))
    assert "'images' is the input 'x'" in found["notes"]
    assert found["inputs"]["x"]["shape"] == [1, 6]
    place.succeeds("inspect", "model.onnx", "out.npz")


def test_two_arrays_are_not_paired(place, samples):
    np.savez(place.folder / "other.npz", a=samples(), b=samples())
    place.fails(3, "calib", "model.onnx", "other.npz", "-o", "out.npz")


def test_what_stays_on_the_disk_is_written_in_blocks(place, samples, monkeypatch):
    for name in ("onnxmi.data.stored.LARGE", "onnxmi.data.stored.BLOCK", "onnxmi.data.npz.STAYS"):
        monkeypatch.setattr(name, 64)
    np.savez_compressed(place.folder / "packed.npz", x=samples(11))
    assert isinstance(
        onnxmi.calib(str(place.folder / "model.onnx"), place.folder / "packed.npz").arrays["x"], stored.LazyArray
    )
    place.succeeds("calib", "model.onnx", "packed.npz", "-o", "out.npz")
    assert np.array_equal(np.load(place.folder / "out.npz")["x"], samples(11))


def test_neither_samples_nor_random_ones_or_both_are_refused(place):
    assert "give either samples or" in place.fails(2, "calib", "model.onnx", "-o", "out.npz")
    assert "give either samples or" in place.fails(
        2, "calib", "model.onnx", "calib.npz", "--random", "3", "-o", "out.npz"
    )
    assert "is also an input" in place.fails(2, "calib", "model.onnx", "calib.npz", "-o", "calib.npz")


@pytest.fixture
def random(place):
    place.succeeds("calib", "model.onnx", "--random", "64", "-o", "random.npz")
    return place


@pytest.mark.parametrize(
    "command",
    [
        ("prune", "model.onnx", "random.npz", "--keep", "0.5", "--threads", "1"),
        ("capture", "model.onnx", "random.npz", "-o", "stats.npz"),
        ("sweep", "model.onnx", "random.npz", "--by", "macs", "--at", "0.7"),
        ("check", "model.onnx", "--baseline", "model.onnx", "--data", "random.npz", "--max-drop", "0.5"),
        ("bench", "model.onnx", "--data", "random.npz", "--seconds", "0.05"),
        ("calib", "model.onnx", "random.npz", "-o", "again.npz"),
    ],
    ids=lambda command: command[0],
)
def test_every_result_of_random_samples_says_so(random, command):
    assert SAID in random.succeeds(*command, columns=200)
    assert any(SAID in note for note in json.loads(random.succeeds(*command, "--json"))["notes"])


def test_the_mark_goes_with_statistics_and_reports(random):
    pytest.importorskip("jinja2")
    random.succeeds("capture", "model.onnx", "random.npz", "-o", "stats.npz")
    run = ("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--threads", "1")
    assert SAID in random.succeeds(*run, "--stats", "stats.npz", columns=200)
    assert SAID not in random.succeeds(*run, columns=200)
    random.succeeds("prune", "model.onnx", "random.npz", "--keep", "0.5", "--report", "page.html")
    assert SAID in (random.folder / "page.html").read_text(encoding="utf-8")


def test_random_samples_are_the_same_for_a_seed(place):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        place.succeeds("calib", "model.onnx", "--random", "70", "--seed", seed, "-o", f"{name}.npz")
    a, b, c = ((place.folder / f"{name}.npz").read_bytes() for name in "abc")
    assert a == b != c


def test_random_tokens_exist_and_nothing_is_masked(tmp_path):
    b = Build(seed=0)
    ids, mask = b.input("batch", "s", name="ids", dtype=np.int64), b.input("batch", "s", name="mask", dtype=np.int64)
    types = b.input("batch", "s", name="token_type_ids", dtype=np.int64)
    words = b.op("Gather", b.weight(13, 7), b.op("Cast", ids, to=onnx.TensorProto.INT32))
    kinds = b.op("Gather", b.weight(2, 7), types)
    weights = b.op("Unsqueeze", b.op("Cast", mask, to=onnx.TensorProto.FLOAT), b.ints(2))
    proto = b.proto(b.op("Mul", b.op("Add", words, kinds), weights))
    data = onnxmi.calib(proto, random=97, dim="s=11")
    assert data.arrays["ids"].shape == (97, 11)
    assert set(np.unique(data.arrays["ids"])) == set(range(13))
    assert np.all(np.asarray(data.arrays["mask"]) == 1)
    assert not np.asarray(data.arrays["token_type_ids"]).any()


def test_random_states_have_the_samples_where_the_model_has_its_batch():
    proto = taking_types(x=(np.float32, ("batch", 5)), state=(np.float32, (2, "batch", 3)), rate=(np.int64, ()))
    data = onnxmi.calib(proto, random=7)
    assert {name: array.shape for name, array in data.arrays.items()} == {"x": (7, 5), "state": (2, 7, 3), "rate": ()}
    fixed = onnxmi.calib(taking_types(x=(np.float32, (1, 5)), state=(np.float32, (2, 1, 3))), random=7)
    assert (fixed.count, fixed.step, fixed.whole) == (7, 1, {"state"})
