"""Folders of sounds: what is read, and one line where it cannot be."""

from __future__ import annotations

import wave

import numpy as np
import pytest

from onnxmi.model import Model
from tests.support.interfaces import taking, taking_types
from tests.support.sources import read, refused

RNG = np.random.default_rng(0)


def write_wave(path, values, rate=8000, channels=1, width=2):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        whole = np.round(np.asarray(values) * (1 << 15)).astype("<i2")
        if width == 3:
            padded = np.zeros((whole.size, 3), np.uint8)
            padded[:, 1:] = whole.reshape(-1, 1).view(np.uint8)
            file.writeframes(padded.tobytes())
        else:
            file.writeframes(whole.tobytes())


SOUND = RNG.integers(-(1 << 15), 1 << 15, size=37) / (1 << 15)


@pytest.mark.parametrize("dims", [("batch", "time"), (None, 1, None)])
@pytest.mark.parametrize("width", [2, 3])
def test_sounds_are_cut_into_windows(tmp_path, dims, width):
    write_wave(tmp_path / "a.wav", SOUND, width=width)
    write_wave(tmp_path / "b.wav", SOUND[:5], width=width)
    data = read(tmp_path, taking(x=dims), length=11, rate=8000)
    expected = np.stack([*SOUND[:33].reshape(3, 11), np.pad(SOUND[:5], (0, 6))]).astype(np.float32)
    assert np.allclose(data.arrays["x"], expected.reshape(4, *(1,) * (len(dims) - 2), 11), atol=1e-6)


def test_sounds_of_one_length_are_whole_and_channels_are_mixed(tmp_path):
    write_wave(tmp_path / "a.wav", np.repeat(SOUND, 2), channels=2)
    data = read(tmp_path, taking(x=("batch", "time")))
    assert np.allclose(data.arrays["x"], SOUND[np.newaxis].astype(np.float32), atol=1e-6)
    assert "x: 1 files have several channels, whose mean is taken" in data.notes


def test_an_input_may_be_one_number(tmp_path):
    model = Model.of(taking_types(x=(np.float32, ("batch", "time")), sr=(np.int64, ()), gain=(np.float32, (1,))))
    write_wave(tmp_path / "a.wav", SOUND)
    data = read(tmp_path, model, values=("sr=16000", "gain=0.5"))
    assert data.arrays["sr"].dtype == np.int64
    assert (data.arrays["sr"], data.arrays["gain"]) == (16000, 0.5)
    assert data.whole == {"sr", "gain"}
    assert "no such input" in refused(tmp_path, model, values="rate=3")
    assert "the samples have it" in refused(tmp_path, model, values="x=3")
    assert "expected a number" in refused(tmp_path, model, values="sr=high")
    assert "does not fit int64" in refused(tmp_path, model, values="sr=0.5")
    assert "does not fix the shape" in refused(tmp_path, taking(x=("N", "T"), y=("N", "c", 2, 2)), values="y=1")


def test_windows_of_a_sound_belong_together(tmp_path):
    for name in "ab":
        write_wave(tmp_path / f"{name}.wav", SOUND)
    data = read(tmp_path, taking(x=("batch", "time")), length=11)
    assert np.array_equal(data.sequences, [0, 0, 0, 1, 1, 1])
    assert data.captions == ("a.wav",) * 3 + ("b.wav",) * 3
    assert read(tmp_path, taking(x=("batch", "time"))).sequences is None


def test_what_is_wrong_with_sounds_is_one_line(tmp_path):
    model = taking(x=("batch", "time"))
    write_wave(tmp_path / "a.wav", SOUND, rate=8000)
    assert "has 8,000 Hz, not 16,000" in refused(tmp_path, model, rate=16000)
    assert "takes 11 entries" in refused(tmp_path, taking(x=("batch", 11)), length=12)
    assert "which input sounds are for is not clear" in refused(tmp_path, taking(x=("batch", 3, 5, 7)))
    write_wave(tmp_path / "b.wav", SOUND[:5], rate=16000)
    assert "give --length" in refused(tmp_path, model)
    assert "several rates" in refused(tmp_path, model, length=5)
    (tmp_path / "c.wav").write_bytes(b"RIFF")
    assert "c.wav: cannot be read" in refused(tmp_path / "c.wav", model)
