"""Commands that take samples take them in every format, with the same options."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from onnxmi.cli import main
from onnxmi.data.sources.options import SourceFields
from tests.data.test_sequences import H, cell, sounds
from tests.support.build import Build

COMMANDS = ("prune", "capture", "sweep", "check", "bench", "inspect")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_samples_are_those_of_every_command(command):
    assert set(SourceFields.__annotations__) <= {option.name for option in main.commands[command].params}


@pytest.mark.parametrize(
    "command",
    [
        ("prune", "model.onnx", "shards", "--keep", "0.5", "--threads", "1"),
        ("capture", "model.onnx", "shards", "-o", "stats.npz"),
        ("sweep", "model.onnx", "shards", "--by", "macs", "--at", "0.7"),
        ("check", "model.onnx", "--baseline", "model.onnx", "--data", "shards", "--max-drop", "0.5"),
        ("bench", "model.onnx", "--data", "shards", "--seconds", "0.05"),
        ("inspect", "model.onnx", "shards"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_reads_a_folder_of_shards(place, samples, command):
    (place.folder / "shards").mkdir()
    for number, part in enumerate(np.array_split(samples(), 3)):
        np.save(place.folder / "shards" / f"{number}.npy", part)
    json.loads(place.succeeds(*command, "--json"))


def test_images_prune_a_model_like_the_arrays_that_they_are(place):
    image = pytest.importorskip("PIL.Image", reason="needs pillow, of the extra images")
    b = Build(seed=3)
    x = b.op("Relu", b.conv(b.input("batch", 3, 13, 11), 3, 7))
    onnx.save(b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", x)), 7, 5)), place.folder / "cnn.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, size=(29, 13, 11, 3), dtype=np.uint8)
    (place.folder / "photos").mkdir()
    for number, one in enumerate(pixels):
        image.fromarray(one).save(place.folder / "photos" / f"{number:02}.png")
    arrays = ((pixels * np.float32(1 / 255 / 0.25)) + np.float32(-0.5 / 0.25)).astype(np.float32).transpose(0, 3, 1, 2)
    np.savez(place.folder / "arrays.npz", x=arrays)
    run = ("--keep", "0.5", "--threads", "1", "-o")
    place.succeeds("prune", "cnn.onnx", "photos", "--mean", "0.5", "--std", "0.25", *run, "a.onnx")
    place.succeeds("prune", "cnn.onnx", "arrays.npz", *run, "b.onnx")
    assert (place.folder / "a.onnx").read_bytes() == (place.folder / "b.onnx").read_bytes()


def test_wrong_options_are_one_line(place):
    assert "--image 0x3: expected a height and a width" in place.fails(
        2, "prune", "model.onnx", "calib.npz", "--image", "0x3"
    )
    assert "has no input 'z'" in place.fails(2, "inspect", "model.onnx", "calib.npz", "--sample-axis", "z=1")
    assert "expected a height" in place.fails(2, "bench", "model.onnx", "--image", "big")


def test_commands_take_sequences(place):
    onnx.save(cell().proto, place.folder / "cell.onnx")
    np.savez(place.folder / "x.npz", x=sounds(97))
    found = json.loads(place.succeeds("calib", "cell.onnx", "x.npz", "--sequence", "-o", "states.npz", "--json"))
    assert found["inputs"]["state"]["shape"] == [2, 1, H]
    run = ("--keep", "0.5", "--threads", "1", "--json", "-o")
    a = json.loads(place.succeeds("prune", "cell.onnx", "x.npz", *run, "a.onnx", "--sequence"))
    place.succeeds("prune", "cell.onnx", "states.npz", *run, "b.onnx")
    assert any("stateN -> state" in note for note in a["notes"])
    assert (place.folder / "a.onnx").read_bytes() == (place.folder / "b.onnx").read_bytes()
    place.succeeds("bench", "cell.onnx", "--data", "x.npz", "--sequences", "--seconds", "0.05")
    assert "no array named 'state'" in place.fails(3, "prune", "cell.onnx", "x.npz")
