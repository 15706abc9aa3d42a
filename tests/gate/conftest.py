"""A folder with a model, smaller and broken ones, their samples, and the command line in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from onnxmi.cli import main
from onnxmi.runtime import stopwatch
from onnxmi.runtime.timing import Latency

LEVEL = np.array([-1.43, 0.24, 0.76, -0.97], np.float32)  # last biases with which every class is answered


class Place:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch

    def run(self, *args: object):
        return CliRunner().invoke(main, ["check", *map(str, args)])

    def passes(self, *args: object) -> str:
        result = self.run(*args)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def refuses(self, code: int, *args: object) -> str:
        """What cannot be checked: one line, and nothing else."""
        result = self.run(*args)
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.count("\n") == 1
        return result.stderr.removeprefix("onnxmi: error: ").rstrip("\n")

    def takes(self, old: np.ndarray, new: np.ndarray) -> None:
        """Let the baseline and the model take known times, ms."""
        times = [Latency(np.asarray(times, dtype=float)) for times in (old, new)]
        self._monkeypatch.setattr(stopwatch, "measure_latency", lambda protos, *_, **__: times[-len(protos) :])


def widened(new: onnx.ModelProto, old: onnx.ModelProto) -> onnx.ModelProto:
    """The first model with the second one's widths: what is added to it hardly matters."""
    for narrow, wide in zip(new.graph.initializer, old.graph.initializer, strict=True):
        values, kept = numpy_helper.to_array(wide).copy(), numpy_helper.to_array(narrow)
        values[tuple(slice(size) for size in kept.shape)] = kept
        if values.ndim == 2:
            values[len(kept) :] *= 0.01  # what comes from units that are added
        wide.CopyFrom(numpy_helper.from_array(values, wide.name))
    return old


@pytest.fixture
def place(tmp_path, monkeypatch, mlp, samples) -> Place:
    new = mlp((6, 7, 5, 4))
    new.graph.initializer[-1].CopyFrom(numpy_helper.from_array(LEVEL, new.graph.initializer[-1].name))
    onnx.save(widened(new, mlp()), tmp_path / "old.onnx")
    onnx.save(new, tmp_path / "new.onnx")
    onnx.save(mlp((6, 7, 5, 3)), tmp_path / "other.onnx")
    np.savez(tmp_path / "data.npz", x=samples(), labels=np.arange(40) % 4)
    np.savez(tmp_path / "unlabelled.npz", x=samples())
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Place(tmp_path, monkeypatch)
