"""Sizes of made-up inputs on the command line: where a model takes no small ones, and what was taken is said."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from tests.runtime.test_synthetic import windowed


@pytest.fixture
def sound(place):
    onnx.save(windowed(), place.folder / "sound.onnx")
    np.savez(place.folder / "sound.npz", x=np.random.default_rng(0).normal(size=(41, 450)).astype(np.float32))
    return place


@pytest.mark.parametrize(
    ("options", "shape"),
    [((), [3, 512]), (("--dim", "time=611"), [3, 611]), (("--shape", "x=2,433"), [2, 433]), (("sound.npz",), [3, 450])],
    ids=str,
)
def test_inspect_says_what_it_ran_the_model_on(sound, options, shape):
    found = json.loads(sound.succeeds("inspect", "sound.onnx", *options, "--json"))
    assert found["probed_with"] == {"x": shape}


def test_sizes_that_the_model_does_not_run_on_are_one_line(sound):
    assert "cannot run the model" in sound.fails(3, "inspect", "sound.onnx", "--dim", "time=5")
    assert "no input 'y'" in sound.fails(2, "inspect", "sound.onnx", "--shape", "y=5")
    assert "expected an axis and its size" in sound.fails(2, "bench", "sound.onnx", "--dim", "time")
    assert "expected an axis and its size" in sound.fails(2, "check", "sound.onnx", "--max-macs", "1M", "--dim", "time")


def test_bench_and_check_take_sizes(sound):
    run = ("--seconds", "0.05", "--no-memory", "--no-operators")
    assert "synthetic (x (1, 512))" in sound.succeeds("bench", "sound.onnx", *run, columns=200)
    shown = sound.succeeds("bench", "sound.onnx", *run, "--shape", "x=2,611", columns=200)
    assert "synthetic (x (2, 611))" in shown
    run = ("check", "sound.onnx", "--max-macs", "1G", "--dim")
    assert sound.succeeds(*run, "time=600") != sound.succeeds(*run, "time=1200")


def test_apply_takes_sizes(sound):
    sound.succeeds("prune", "sound.onnx", "sound.npz", "--keep", "0.5", "--threads", "1", "-o", "a.onnx", "--force")
    sound.succeeds("apply", "sound.onnx", "a.plan.json", "-o", "b.onnx", "--dim", "time=500")
    assert "cannot run" in sound.fails(3, "apply", "sound.onnx", "a.plan.json", "-o", "c.onnx", "--dim", "time=5")
