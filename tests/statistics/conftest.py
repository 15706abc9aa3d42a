"""Models and samples to measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onnxmi.data.calibration import Calibration, check_calibration
from onnxmi.statistics.capture import CaptureOptions, capture
from onnxmi.statistics.statistics import Statistics
from onnxmi.transforms.analysis import Analysis, analyze
from tests.support.build import Build

HEADS, DIMS, WIDTH = 3, 5, 11


def token_model(softmax: bool = True) -> onnx.ModelProto:
    """Attention over tokens with a mask, a feed-forward layer, and an output for each sample."""
    b = Build(seed=1)
    x, mask = b.input("N", "S", WIDTH), b.input("N", "S", name="attention_mask")
    heads = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        made = b.reshape(b.dense(x, WIDTH, HEADS * DIMS), 0, 0, HEADS, DIMS)
        heads.append(b.op("Transpose", made, perm=order))
    scores = b.op("MatMul", heads[0], heads[1])
    if softmax:
        bias = b.op("Mul", b.op("Sub", mask, b.const(1.0)), b.const(1e4))
        scores = b.op("Softmax", b.op("Add", scores, b.op("Unsqueeze", bias, b.ints(1, 2))), axis=-1)
    else:
        scores = b.op("Mul", scores, b.op("Unsqueeze", mask, b.ints(1, 2)))
    mixed = b.reshape(b.op("Transpose", b.op("MatMul", scores, heads[2]), perm=[0, 2, 1, 3]), 0, 0, HEADS * DIMS)
    hidden = b.op("Relu", b.dense(b.dense(mixed, HEADS * DIMS, 13), 13, 17))
    first = b.op("Gather", hidden, b.const(np.array(0)), axis=1)
    return b.proto(b.gemm(first, 17, 4))


def image_model(space: tuple[int, int] = (9, 7)) -> onnx.ModelProto:
    """Two convolutions that read the same, one that does not, and a head."""
    b = Build(seed=2)
    x = b.op("Relu", b.conv(b.input("N", 3, *space), 3, 8))
    twice = b.op("Add", b.conv(x, 8, 6), b.conv(x, 8, 6))
    made = b.op("Relu", b.op("Add", twice, b.conv(x, 8, 6, kernel=(1, 1))))
    return b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", made)), 6, 4))


@dataclass(frozen=True)
class Scene:
    """A model with calibration samples."""

    analysis: Analysis
    data: Calibration

    def measure(self, *sets: Sequence[int], **options: Any) -> tuple[Statistics, ...]:
        chosen = [np.asarray(samples, dtype=np.int64) for samples in sets]
        return capture(self.analysis, self.data, chosen, CaptureOptions(threads=1, **options))

    def with_arrays(self, arrays: dict[str, NDArray[Any]]) -> Scene:
        return Scene(self.analysis, check_calibration(arrays, self.analysis.model.graph))


def scene_of(proto: onnx.ModelProto, arrays: dict[str, NDArray[Any]]) -> Scene:
    analysis = analyze(proto)
    return Scene(analysis, check_calibration(arrays, analysis.model.graph))


def token_arrays(count: int = 24, tokens: int = 6) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, tokens + 1, size=count)
    mask = (np.arange(tokens) < lengths[:, None]).astype(np.float32)
    x = rng.normal(size=(count, tokens, WIDTH)).astype(np.float32)
    return {"x": x, "attention_mask": mask, "labels": rng.integers(0, 4, size=count)}


def image_arrays(count: int = 24, space: tuple[int, int] = (9, 7)) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(4)
    return {"x": rng.normal(size=(count, 3, *space)).astype(np.float32), "labels": rng.integers(0, 4, size=count)}


def small_case(kind: str, count: int) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """A model on tokens or on images so small that every row of some samples is measured, and these samples."""
    if kind == "tokens":
        return token_model(), token_arrays(count)
    return image_model((3, 4)), image_arrays(count, (3, 4))


@pytest.fixture(scope="session")
def tokens() -> Scene:
    return scene_of(token_model(), token_arrays())


@pytest.fixture(scope="session")
def images() -> Scene:
    return scene_of(image_model(), image_arrays())


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    return scene_of
