"""Deep networks of pointwise and depthwise convolutions with squeeze-and-excitation, on few samples."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.data.calibration import check_calibration
from onnxmi.repair import repair_one_pass, repair_stepwise
from onnxmi.runtime.session import open_session
from onnxmi.transforms.prune_channels import prune_channels
from tests.support.build import Build

WIDTHS = (17, 23, 29, 31, 37)
SIZE = (3, 13, 11)
DEPTH = 11


def excited(b: Build, x: str, width: int) -> str:
    """Squeeze-and-excitation: every channel is scaled by what all of them are on average."""
    inner = b.op("Relu", b.conv(b.op("GlobalAveragePool", x), width, 7, (1, 1)))
    return b.op("Mul", x, b.op("HardSigmoid", b.conv(inner, 7, width, (1, 1))))


def deep_net(seed: int, samples: np.ndarray) -> onnx.ModelProto:
    """Channels whose scales are far apart."""
    b, x, wide = Build(seed=seed), "x", 3
    b.input("N", *SIZE)
    for block in range(DEPTH):
        width = WIDTHS[block % len(WIDTHS)]
        x = b.op("HardSwish", b.batch_norm(b.conv(x, wide, width, (1, 1)), width))
        x = b.op("Mul", x, b.const(np.exp(b.rng.normal(size=(1, width, 1, 1)))))
        x = b.op("Add", x, b.const(0.3 * b.rng.normal(size=(1, width, 1, 1))))
        x = b.op("HardSwish", b.batch_norm(b.conv(x, width, width, group=width, pads=[1, 1, 1, 1]), width))
        x, wide = excited(b, x, width) if block % 3 == 2 else x, width
    return normalized(b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", x)), wide, 11)), samples)


def normalized(proto: onnx.ModelProto, samples: np.ndarray) -> onnx.ModelProto:
    """Give each BatchNormalization the statistics of what it reads, in order, as training does."""
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in [node for node in proto.graph.node if node.op_type == "BatchNormalization"]:
        read = open_session(proto, taps=[node.input[0]], threads=1).run({"x": samples})[node.input[0]]
        for name, value in ((node.input[3], read.mean((0, 2, 3))), (node.input[4], read.var((0, 2, 3)))):
            stored[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    return proto


def images(rng: np.random.Generator, count: int, themes: np.ndarray) -> np.ndarray:
    """Mixtures of a few themes, with noise: what a network sees has fewer degrees of freedom than entries."""
    mixed = np.tensordot(rng.normal(size=(count, len(themes))), themes, 1) / 3
    return (mixed + 0.3 * rng.normal(size=(count, *SIZE))).astype(np.float32)


@pytest.mark.parametrize("seed", [2, 3])
def test_a_deep_network_is_not_made_worse_step_by_step(bench, seed: int) -> None:
    """Three samples to judge by: alone they take ridges so small that errors grow from layer to layer."""
    rng = np.random.default_rng(seed)
    themes = rng.normal(size=(9, *SIZE))
    shown, fresh = images(rng, 41, themes), images(rng, 97, themes)
    made = bench(deep_net(seed, shown), samples=41)
    made.data = check_calibration({"x": shown}, made.model.graph)
    keeping = Keeping({layer.id: Kept(np.flatnonzero(np.arange(layer.size) % 9 != 1)) for layer in made.graph.layers})
    made.fit, made.validation = np.arange(38), np.arange(38, 41)
    cut = made.cut(keeping)
    once = repair_one_pass(cut, made.statistics())
    stepwise = repair_stepwise(cut, made.repair_samples(), shared=once)
    cuts = [prune_channels(cut, replacements) for replacements in ((), once.replacements, stepwise.replacements)]
    plain, one_pass, stepped = errors(made.model.proto, cuts, fresh)
    assert stepped < 1.5 * min(one_pass, plain)


def errors(original: onnx.ModelProto, cuts: list[onnx.ModelProto], samples: np.ndarray) -> list[float]:
    """Squared errors of the output over its variance."""
    wanted, *given = (
        next(iter(open_session(proto, threads=1).run({"x": samples}).values())).astype(np.float64)
        for proto in (original, *cuts)
    )
    return [float(np.square(one - wanted).sum() / np.square(wanted - wanted.mean(0)).sum()) for one in given]
