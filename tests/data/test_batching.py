"""Models whose batch is dynamic by name alone: they run on some numbers of samples and not on others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.data.batching import LARGEST, batched
from onnxmi.data.calibration import Calibration, check_calibration
from onnxmi.errors import ModelError
from onnxmi.gate.check import CheckOptions, check
from onnxmi.model import Model
from tests.support.build import Build

IN, SAMPLES = 7, 31


def picky(number: int) -> onnx.ModelProto:
    """Pairs its samples up (or takes them by three, ...), and so runs on multiples of a number alone."""
    b = Build(seed=5)
    x = b.reshape(b.reshape(b.input("N", IN), -1, number, IN), -1, IN)
    return b.proto(b.gemm(b.op("Relu", b.gemm(x, IN, 13)), 13, 5))


def baked(number: int) -> onnx.ModelProto:
    """An exporter wrote the batch that it saw into a Reshape."""
    b = Build(seed=5)
    x = b.reshape(b.gemm(b.input("N", IN), IN, 13), number, 13)
    return b.proto(b.gemm(b.op("Relu", x), 13, 5), dims=[("N", 5)])


def data(proto: onnx.ModelProto) -> Calibration:
    arrays = {"x": np.random.default_rng(1).normal(size=(SAMPLES, IN)).astype(np.float32)}
    return check_calibration(arrays, Model.of(proto).graph)


@pytest.mark.parametrize(("made", "number"), [(picky, 2), (picky, 3), (baked, 4), (baked, LARGEST)])
def test_the_smallest_batch_that_runs_is_found_and_said(made, number: int) -> None:
    proto = made(number)
    found = batched(Model.of(proto), data(proto), 1)
    assert found.step == number
    (note,) = found.notes
    assert f"batches of {number} are used" in note


def test_a_model_that_takes_any_batch_is_left_as_it_is() -> None:
    proto = picky(1)
    before = data(proto)
    assert batched(Model.of(proto), before, 1) is before


def test_a_batch_that_the_graph_fixes_is_not_tried(monkeypatch) -> None:
    monkeypatch.setattr("onnxmi.data.batching.open_session", lambda *_, **__: pytest.fail("was opened"))
    b = Build(seed=5)
    proto = b.proto(b.gemm(b.op("Relu", b.gemm(b.input(4, IN), IN, 13)), 13, 5))
    before = data(proto)
    assert before.step == 4
    assert batched(Model.of(proto), before, 1) is before


def test_a_model_that_runs_on_no_batch_is_refused_in_one_line() -> None:
    proto = baked(LARGEST + 1)
    with pytest.raises(ModelError) as caught:
        batched(Model.of(proto), data(proto), 1)
    assert "\n" not in str(caught.value)
    assert "Reshape" in str(caught.value)


@pytest.mark.parametrize("made", [picky, baked])
@pytest.mark.parametrize("number", [2, 3])
def test_such_models_are_pruned_and_all_samples_count(made, number: int) -> None:
    """31 samples are no multiple of either."""
    proto = made(number)
    result = onnxmi.prune(proto, dict(data(proto).arrays), onnxmi.PruneOptions(keep=0.5, threads=1, force=True))
    assert any("are used" in note for note in result.notes)
    (measured,) = [note for note in result.notes if note.startswith("statistics of")]
    assert measured.startswith(f"statistics of {SAMPLES - result.quality.samples} samples")


@pytest.mark.parametrize("batch", [None, 4])
def test_the_gate_runs_them_in_such_batches_too(batch: int | None, tmp_path: Path) -> None:
    """31 samples in batches of 32 would be one of 31; a batch that is asked for is taken as it is."""
    onnx.save(picky(2), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", **data(picky(2)).arrays)
    limits = {"max-drop": 0.0, "max-macs": 1e6}
    options = CheckOptions(
        limits=limits, baseline=tmp_path / "model.onnx", data=tmp_path / "data.npz", threads=1, batch=batch
    )
    report = check(tmp_path / "model.onnx", options)
    assert report.passed, report.verdicts
    assert any("batches of 2 are used" in note for note in report.notes)


def test_a_model_that_runs_on_none_fails_the_gate(tmp_path: Path) -> None:
    onnx.save(baked(LARGEST + 1), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", **data(baked(LARGEST + 1)).arrays)
    report = check(
        tmp_path / "model.onnx", CheckOptions(limits={"max-size": 1e6}, data=tmp_path / "data.npz", threads=1)
    )
    assert [verdict.name for verdict in report.failed] == ["runs"]
