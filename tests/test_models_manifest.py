"""The bundled models are the files, and have the accuracy, that the manifest states."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

MODELS = Path(__file__).resolve().parent.parent / "models"
MANIFEST: dict[str, Any] = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))
MAX_TOTAL_BYTES = 10_000_000


def count_correct(name: str) -> tuple[int, int]:
    """Return how many evaluation samples the model gets right, and of how many."""
    session = ort.InferenceSession(str(MODELS / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    with np.load(MODELS / f"{name}.eval.npz") as data:
        labels = data["labels"]
        feeds = {node.name: data[node.name] for node in session.get_inputs()}
    (logits,) = session.run(None, feeds)
    return int((logits.argmax(axis=1) == labels).sum()), len(labels)


def rows(path: Path) -> set[bytes]:
    with np.load(path) as data:
        return {row.tobytes() for name in data.files if name != "labels" for row in data[name]}


def test_manifest_lists_every_model_and_data_file() -> None:
    present = {path.name for pattern in ("*.onnx", "*.npz") for path in MODELS.glob(pattern)}
    expected = {f"{name}{end}" for name in MANIFEST["models"] for end in (".onnx", ".calib.npz", ".eval.npz")}
    assert present == set(MANIFEST["files"]) == expected


@pytest.mark.parametrize("name", MANIFEST["files"])
def test_file_has_stated_digest_and_size(name: str) -> None:
    content = (MODELS / name).read_bytes()
    stated = MANIFEST["files"][name]
    assert len(content) == stated["bytes"]
    assert hashlib.sha256(content).hexdigest() == stated["sha256"]


@pytest.mark.parametrize("name", MANIFEST["models"])
def test_model_has_stated_accuracy(name: str) -> None:
    stated = MANIFEST["models"][name]
    correct, total = count_correct(name)
    assert (correct, total) == (stated["eval_correct"], stated["eval_samples"])
    assert correct / total == pytest.approx(stated["eval_accuracy"], abs=1e-6)


@pytest.mark.parametrize("name", MANIFEST["models"])
def test_calibration_and_evaluation_share_no_sample(name: str) -> None:
    assert not rows(MODELS / f"{name}.calib.npz") & rows(MODELS / f"{name}.eval.npz")


@pytest.mark.parametrize("name", MANIFEST["models"])
def test_calibration_has_stated_sample_count(name: str) -> None:
    with np.load(MODELS / f"{name}.calib.npz") as data:
        assert {len(data[key]) for key in data.files} == {MANIFEST["models"][name]["calib_samples"]}


def test_models_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < MAX_TOTAL_BYTES
