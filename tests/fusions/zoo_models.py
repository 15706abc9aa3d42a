"""Graphs of real exporters with seeded random weights, and the same cut to half at random."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.graph.channel_graph import Layer
from onnxmi.transforms.analysis import Analysis, analyze
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels

ZOO = Path(__file__).resolve().parents[2].parent / "shared" / "zoo"


def unpack(name: str, folder: Path) -> Path:
    """Write a model of the zoo into a folder; skip the test where there is no such model."""
    if not (ZOO / f"{name}.onnx.xz").exists():
        pytest.skip(f"the zoo of exported graphs is not beside the repository, or has no {name}")
    subprocess.run([sys.executable, ZOO / "zoo.py", "unpack", name, "--to", folder], check=True, capture_output=True)
    return folder / f"{name}.onnx"


@dataclass(frozen=True, eq=False)
class Halved:
    """A model, and the same with half of the units of the layers of some kinds."""

    path: Path
    kinds: tuple[str, ...]
    seed: int = 0

    @cached_property
    def analysis(self) -> Analysis:
        return analyze(self.path)

    @property
    def dense(self) -> onnx.ModelProto:
        return self.analysis.model.proto

    @cached_property
    def cut(self) -> onnx.ModelProto:
        rng = np.random.default_rng(self.seed)
        layers = [layer for layer in self.analysis.graph.layers if layer.kind in self.kinds]
        assert layers, f"nothing to cut: {self.analysis.graph.frozen}"
        keeping = Keeping({layer.id: _half(layer, rng) for layer in layers})
        return prune_channels(Cut(self.analysis, keeping))

    def size(self, kind: str) -> int:
        """Size of the first layer of a kind, 0 where there is none."""
        return next((layer.size for layer in self.analysis.graph.layers if layer.kind == kind), 0)


def _half(layer: Layer, rng: np.random.Generator) -> Kept:
    return Kept(np.sort(rng.permutation(layer.size)[: layer.size // 2]))


Halve = Callable[..., Halved]
