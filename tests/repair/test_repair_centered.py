"""The means of the outputs put right in the last biases."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import start_session
from onnxmi.repair import Repaired
from onnxmi.repair.centered import centered
from onnxmi.runtime.session import open_session
from onnxmi.transforms.analysis import as_model
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from tests.support.build import Build

FEW, FRESH = 13, 211


def features(b: Build, last: int) -> str:
    x = b.op("Relu", b.conv(b.input("N", 3, 7, 5), 3, 23))
    return b.op("Relu", b.conv(x, 23, last))


def classes(b: Build) -> str:
    return b.op("Softmax", b.gemm(b.op("Flatten", b.op("GlobalAveragePool", features(b, 29))), 29, 7))


def dense_values(b: Build) -> str:
    return b.dense(b.op("Flatten", b.op("GlobalAveragePool", features(b, 29))), 29, 7)


def a_map(b: Build) -> str:
    return b.op("Sigmoid", b.conv(features(b, 29), 29, 7))


def without_a_bias(b: Build) -> str:
    pooled = b.op("Flatten", b.op("GlobalAveragePool", features(b, 29)))
    return b.op("MatMul", pooled, b.weight(29, 7, fan_in=29))


def logits(proto: onnx.ModelProto, tensor: str, samples: np.ndarray) -> np.ndarray:
    found = open_session(proto, taps=[tensor], threads=1).run({"x": samples})[tensor].astype(np.float64)
    return np.moveaxis(found, 1, -1).reshape(-1, found.shape[1])


@pytest.mark.parametrize("make", [classes, dense_values, a_map, without_a_bias])
def test_means_of_few_samples_help_on_others(make) -> None:
    ratios = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        b = Build(seed=seed)
        proto = b.proto(make(b))
        few, fresh = (rng.normal(size=(n, 3, 7, 5)).astype(np.float32) for n in (FEW, FRESH))
        session = start_session(as_model(proto), {"x": few}, PruneOptions(threads=1))
        found = session.analysis
        keeping = Keeping({layer.id: Kept(np.arange(0, layer.size, 2)) for layer in found.graph.layers})
        cut = Cut(found, keeping)
        plain = prune_channels(cut)
        made = prune_channels(cut, centered(cut, Repaired(), session.offsets(plain)).replacements)
        (tensor,) = session.outputs.meaning.tensors
        wanted, before, after = (logits(p, tensor, fresh) for p in (found.model.proto, plain, made))
        ratios.append(np.square(after - wanted).sum() / np.square(before - wanted).sum())
    assert max(ratios) < 1.02
    assert np.median(ratios) < 0.5


def test_what_is_not_clearly_off_is_left_alone() -> None:
    b = Build(seed=3)
    session = start_session(
        as_model(b.proto(dense_values(b))),
        {"x": np.random.default_rng(1).normal(size=(FEW, 3, 7, 5)).astype(np.float32)},
        PruneOptions(threads=1),
    )
    offsets = session.offsets(session.model.proto)
    assert [offset.tolist() for offset in offsets.values()] == [[0.0] * 7]
    assert centered(Cut(session.analysis, Keeping()), Repaired(), offsets).replacements == ()


@pytest.mark.parametrize("make", [classes, dense_values, a_map])
def test_no_offsets_leave_less_damage_than_the_least(make) -> None:
    b = Build(seed=7)
    samples = np.random.default_rng(2).normal(size=(83, 3, 7, 5)).astype(np.float32)
    session = start_session(as_model(b.proto(make(b))), {"x": samples}, PruneOptions(threads=1))
    keeping = Keeping({layer.id: Kept(np.arange(0, layer.size, 2)) for layer in session.analysis.graph.layers})
    cut = Cut(session.analysis, keeping)
    plain = prune_channels(cut)
    made = prune_channels(cut, centered(cut, Repaired(), session.offsets(plain)).replacements)
    least = session.least_validation_damage(plain)
    assert 0.0 < least < session.validation_damage(plain)
    assert least < 1.02 * session.validation_damage(made)  # with probabilities it is about the least
    assert session.least_validation_damage(made) == pytest.approx(least, rel=1e-3)
