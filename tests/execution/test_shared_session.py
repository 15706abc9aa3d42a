"""What workers leave in files, read again at home."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

import onnxmi
from onnxmi.model import mapped, save
from onnxmi.model.mapped import is_memory_mapped, with_values_inside
from onnxmi.pruning.shared_session import read_back
from tests.execution.conftest import two_layers


@pytest.mark.parametrize("large", [False, True])
def test_a_model_outlives_the_folder_that_a_worker_left_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> None:
    """Large tensors of a large model are mapped: from a file that lives as long as the run's own models."""
    if large:
        monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 1)
        monkeypatch.setattr(mapped, "MIN_EXTERNAL_BYTES", 1)
    proto, folder = two_layers(), tmp_path / "left"
    folder.mkdir()
    onnx.save(proto, tmp_path / "source.onnx")
    save(proto, folder / "made.onnx", external=large)
    session = SimpleNamespace(source=onnxmi.load(tmp_path / "source.onnx"))
    made = read_back(session, folder / "made.onnx")
    shutil.rmtree(folder)
    assert is_memory_mapped(made) == large
    assert with_values_inside(made).SerializeToString() == proto.SerializeToString()
