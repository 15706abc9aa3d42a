"""A folder with two models and their samples, and the command line in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onnxmi.cli import main
from tests.support.build import Build


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *args: object):
        return CliRunner().invoke(main, [str(arg) for arg in args])

    def succeeds(self, *args: object) -> str:
        result = self.run(*args)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def fails(self, code: int, *args: object) -> str:
        result = self.run(*args)
        assert result.exit_code == code
        assert result.stdout == "" or json.loads(result.stdout)["error"]["exit_code"] == code  # with --json
        assert result.stderr.count("\n") == 1
        return result.stderr.removeprefix("onnxmi: error: ").rstrip("\n")


@pytest.fixture
def place(tmp_path, monkeypatch, mlp, samples) -> Place:
    onnx.save(mlp((6, 12, 10, 4)), tmp_path / "wide.onnx")
    onnx.save(mlp((6, 7, 5, 4)), tmp_path / "narrow.onnx")
    np.savez(tmp_path / "data.npz", x=samples(11))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Place(tmp_path)


@pytest.fixture
def sequences():
    """A model with a batch and a length, both dynamic: (batch, length, 5) -> (batch, length, 3)."""

    def make() -> onnx.ModelProto:
        b = Build()
        return b.proto(b.dense(b.input("batch", "length", 5), 5, 3))

    return make
