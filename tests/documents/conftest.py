"""A folder with the files that the documents' commands name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import onnxmi
from onnxmi.cli import main

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 256


def take(source: Path, target: Path, count: int, first: int = 0) -> None:
    with np.load(source) as data:
        np.savez(target, **{name: data[name][first : first + count] for name in data.files})


def write_photos(folder: Path, count: int = 192) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="pillow is in the extra `images`")
    folder.mkdir()
    with np.load(ROOT / "models" / "digits-resnet.calib.npz") as data:
        for number, image in enumerate(data["image"][:count, 0]):
            pillow.fromarray(np.round(255 * image).astype(np.uint8)).save(folder / f"{number:03}.png")


def write_results(folder: Path) -> None:
    """Write what pages take from steps that they only speak of: a smaller model with its plan, runs, statistics."""
    model, calib = str(folder / "model.onnx"), str(folder / "calib.npz")
    result = onnxmi.prune(model, calib, keep=0.5, threads=1)
    for name in ("model.pruned", "MODEL.pruned", "small", "new"):
        result.save(folder / f"{name}.onnx")
    command = ["prune", model, calib, "--keep", "0.5", "--threads", "1", "-o", str(folder / "run.onnx"), "--json"]
    sweep = ["sweep", model, calib, "--by", "params", "--at", "0.8,0.5", "--threads", "1", "--json"]
    for name, words in (("RUN.json", command), ("sweep.json", sweep)):
        (folder / name).write_text(CliRunner().invoke(main, words).stdout, encoding="utf-8")


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A bundled network under the names that the pages use, the small ones of examples/, and samples for all."""
    folder = tmp_path_factory.mktemp("files")
    models = ROOT / "models"
    for name in ("model", "MODEL"):
        shutil.copy(models / "digits-mlp.onnx", folder / f"{name}.onnx")
    shutil.copy(models / "digits-resnet.onnx", folder / "pictures.onnx")
    for name in ("calib", "CALIB", "shard-1"):
        take(models / "digits-mlp.calib.npz", folder / f"{name}.npz", SAMPLES)
    take(models / "digits-mlp.calib.npz", folder / "shard-2.npz", SAMPLES, SAMPLES)
    for name in ("eval", "EVAL"):
        shutil.copy(models / "digits-mlp.eval.npz", folder / f"{name}.npz")
    write_photos(folder / "photos")
    (folder / "FOLDER").mkdir()
    take(models / "digits-mlp.calib.npz", folder / "FOLDER" / "shard.npz", SAMPLES)
    write_results(folder)
    for script in sorted((ROOT / "examples").glob("tiny_*.py")):
        subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture
def place(files, tmp_path, monkeypatch) -> Path:
    """A copy of it to work in; what is measured is kept apart from the user's cache."""
    folder = tmp_path / "place"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ONNXMI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return folder
