"""A small model with its samples in files, and what one measurement in shards gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi import PruneOptions
from onnxmi.data.shards import Shard
from onnxmi.pruning.shards import capture_shard
from onnxmi.statistics.merging import merge_to
from tests.support.build import Build

SHARDS, ROWS, WIDTH = 5, 331, 7
OPTIONS = PruneOptions(threads=1, latency=False)


@dataclass(frozen=True)
class Place:
    """A folder with model.onnx and calib.npz."""

    folder: Path
    expected: bytes

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def samples(self) -> Path:
        return self.folder / "calib.npz"


def two_layers() -> onnx.ModelProto:
    b = Build(seed=5)
    hidden = b.op("Relu", b.gemm(b.input("N", WIDTH), WIDTH, 23))
    return b.proto(b.gemm(b.op("Relu", b.gemm(hidden, 23, 19)), 19, 3))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("shared")
    onnx.save(two_layers(), folder / "model.onnx")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    np.savez(folder / "calib.npz", x=x, labels=rng.integers(0, 3, size=ROWS))
    model, parts = onnxmi.load(folder / "model.onnx"), [folder / f"part{index}.npz" for index in range(SHARDS)]
    for index, part in enumerate(parts):
        capture_shard(model, folder / "calib.npz", Shard(index, SHARDS), part, OPTIONS)
    merge_to(parts, folder / "expected.npz")
    return Place(folder, (folder / "expected.npz").read_bytes())
