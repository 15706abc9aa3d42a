"""A folder with a small model and its samples, and two ways to run the command line in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onnxmi.cli import main


class Workplace:
    """A temporary folder to run commands in; a command that fails must leave it as it was."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch

    def contents(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}

    def run(self, *args: object, columns: int = 80, overwrite: bool = True):
        """Run in this process; the result has exit_code, stdout and stderr. Results of earlier runs are replaced."""
        self._monkeypatch.chdir(self.folder)
        self._monkeypatch.setenv("COLUMNS", str(columns))
        replace = ["--overwrite"] if overwrite and args[:1] in (("prune",), ("apply",)) and len(args) > 1 else []
        return CliRunner().invoke(main, [*(str(arg) for arg in args), *replace])

    def succeeds(self, *args: object, columns: int = 80) -> str:
        result = self.run(*args, columns=columns)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def fails(self, code: int, *args: object, overwrite: bool = True) -> str:
        """Run what must fail: one line on standard error, the exit code, nothing printed and nothing written."""
        before = self.contents()
        result = self.run(*args, overwrite=overwrite)
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("onnxmi: error: ")
        assert "Traceback" not in result.stderr
        assert result.exit_code == code
        assert result.stdout == ""
        assert self.contents() == before
        return result.stderr.removeprefix("onnxmi: error: ").rstrip("\n")

    def process(self, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run as users do."""
        return subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    @staticmethod
    def command(*args: object) -> list[str]:
        return [sys.executable, "-m", "onnxmi", *map(str, args)]


@pytest.fixture
def place(tmp_path, monkeypatch, mlp, samples) -> Workplace:
    """A folder with model.onnx and calib.npz."""
    onnx.save(mlp(), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=samples(), labels=np.arange(40) % 4)
    return Workplace(tmp_path, monkeypatch)
