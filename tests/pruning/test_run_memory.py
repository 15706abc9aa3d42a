"""What follows from the memory that a run may take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxmi
from onnxmi.data.sources import as_calibration
from onnxmi.pruning import run_memory
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.run_memory import with_fitting_batches
from onnxmi.pruning.session import start_session
from onnxmi.runtime import environment
from onnxmi.runtime.environment import free_memory
from onnxmi.statistics import capture
from onnxmi.transforms.analysis import analyze, as_model
from tests.support.build import Build

FLOAT = 4


@pytest.fixture
def analysis(mlp, samples):
    return analyze(as_model(mlp()), {"x": samples(3)})


@pytest.fixture
def data(mlp, samples):
    return as_calibration({"x": samples(83)}, as_model(mlp()))


READ = (6 + 12 + 10) * FLOAT  # bytes that the products of the perceptron read of a sample


@pytest.mark.parametrize(
    ("room", "batch"), [(1, 1), (7 * READ, 7), (8 * READ - 1, 7), (31 * READ, 31), (99 * READ, 32)]
)
def test_a_batch_is_as_large_as_the_memory_allows(analysis, data, room, batch):
    given = PruneOptions(memory=room * run_memory.OF_BATCHES)
    assert with_fitting_batches(given, analysis, data).batch_size == batch


def test_without_a_limit_the_batch_depends_on_the_model_alone(analysis, data, monkeypatch):
    monkeypatch.setattr(environment, "free_memory", lambda: pytest.fail("asked the machine"))
    monkeypatch.setattr(run_memory, "BATCH_BYTES", 5 * READ)
    assert with_fitting_batches(PruneOptions(), analysis, data).batch_size == 5


def test_batches_of_large_images_are_small():
    """The analysis runs the model on images of its own choice, which are smaller."""
    b = Build(17)
    y = b.op("GlobalAveragePool", b.conv(b.op("Relu", b.conv(b.input("N", 3, "H", "W"), 3, 5)), 5, 7))
    model = as_model(b.proto(b.op("Flatten", y)))
    images = {"x": np.random.default_rng(17).normal(size=(11, 3, 131, 97)).astype(np.float32)}
    data, analysis = as_calibration(images, model), analyze(model, {"x": images["x"][:1]})
    options = PruneOptions(memory=run_memory.OF_BATCHES * 4 * (3 + 5) * 131 * 97 * FLOAT)
    assert with_fitting_batches(options, analysis, data).batch_size == 4


def test_a_run_has_the_batches_that_fit(mlp, samples):
    session = start_session(as_model(mlp()), {"x": samples(83)}, PruneOptions(memory=11 * READ * run_memory.OF_BATCHES))
    assert session.options.batch_size == 11
    assert session.repair_samples.options.batch_size == 11


def test_half_of_what_is_free_is_taken_where_nothing_is_said(monkeypatch):
    monkeypatch.setattr(capture, "free_memory", lambda: 4242)
    assert capture._default_memory(lean=False) == 2121
    assert capture._default_memory(lean=True) == capture.LEAN_MEMORY
    monkeypatch.setattr(capture, "free_memory", lambda: None)
    assert capture._default_memory(lean=False) is None


def test_free_memory_is_what_the_system_says(tmp_path: Path):
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemFree: 1 kB\nMemAvailable:  17 kB\n")
    assert free_memory(tmp_path) == 17 * 1024
    assert free_memory(tmp_path / "none") is None


def test_a_result_says_what_the_process_held(mlp, samples):
    result = onnxmi.prune(mlp(), {"x": samples(83)}, keep=0.5, threads=1, force=True)
    assert result.peak_memory is not None
    assert result.peak_memory > 2**24
    assert "peak memory of this run" in str(result)


@pytest.mark.parametrize(("memory", "told"), [(2**20, True), (2**40, False)])
def test_a_run_says_where_it_took_more_than_it_was_given(mlp, samples, memory, told):
    result = onnxmi.prune(mlp(), {"x": samples(83)}, keep=0.5, threads=1, force=True, memory=memory)
    assert any("more than --memory" in note for note in result.notes) is told


def test_smaller_batches_give_the_same_model_but_for_rounding(mlp, samples):
    data = {"x": samples(211)}
    few = onnxmi.prune(mlp(), data, keep=0.5, threads=1, force=True, memory=7 * READ * run_memory.OF_BATCHES)
    many = onnxmi.prune(mlp(), data, keep=0.5, threads=1, force=True)
    for one, other in zip(few.plan.choices, many.plan.choices, strict=True):
        np.testing.assert_array_equal(one.kept, other.kept)
    assert few.damage.total == pytest.approx(many.damage.total, rel=1e-3)
