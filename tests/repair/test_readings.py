"""A weight that is read in several ways: what is measured belongs to a reading; like readings are fitted together."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.data.sources import as_calibration
from onnxmi.graph.linear import Linear, find_linears
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.pipeline import prune
from onnxmi.statistics.capture import CaptureOptions, capture
from onnxmi.statistics.output_sensitivity import measure_sensitivities
from onnxmi.transforms.analysis import analyze
from tests.repair.conftest import Bench
from tests.support.build import Build
from tests.support.measure import yardstick_of
from tests.support.oracle import Case, assert_exact

COUNT = 131


def autoencoder(inner: int, tied: bool) -> onnx.ModelProto:
    """Gemm with W, and back with W^T: the same tensor, or a copy of it."""
    b = Build(seed=8)
    weight = b.weight(19, inner, name="w")
    x = b.op("Relu", b.gemm(b.input("N", 7), 7, 19))
    x = b.op("Relu", b.op("Gemm", x, weight))
    back = weight if tied else b.const(b.initializers[weight], "again")
    return b.proto(b.gemm(b.op("Relu", b.op("Gemm", x, back, transB=1)), 19, 5))


def two_towers(dilation: int) -> onnx.ModelProto:
    """Two convolutions with one weight, alike but for the dilation."""
    b = Build(seed=8)
    x = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, 13))
    weight, bias = b.weight(11, 13, 3, 3), b.vector(11)
    far = b.op("Conv", x, weight, bias, pads=[dilation] * 4, dilations=[dilation] * 2)
    near = b.op("Conv", x, weight, bias, pads=[1] * 4, dilations=[1, 1])
    return b.proto(b.conv(b.op("Relu", b.op("Add", near, far)), 11, 5))


def linears_of(proto: onnx.ModelProto) -> tuple[Linear, ...]:
    case = Case.of(proto)
    return find_linears(case.model.graph, case.graph)


@pytest.mark.parametrize("inner", [31, 19])
def test_both_axes_of_one_weight_are_measured_as_if_there_were_two_weights(inner: int) -> None:
    x = {"x": np.random.default_rng(1).normal(size=(COUNT, 7)).astype(np.float32)}
    found = []
    for tied in (True, False):
        analysis = analyze(autoencoder(inner, tied))
        data, samples = as_calibration(x, analysis.model), np.arange(COUNT)
        options = CaptureOptions(threads=1)
        (statistics,) = capture(analysis, data, [samples], options)
        felt = measure_sensitivities(analysis, data, samples, yardstick_of(analysis, data), options)
        found.append((statistics.moments, felt))
        assert [(one.features, one.outputs.size) for one in analysis.linears[1:3]] == [(19, inner), (inner, 19)]
    (moments, felt), (moments_apart, felt_apart) = found
    assert moments.keys() == moments_apart.keys()
    for key, one in moments.items():
        np.testing.assert_array_equal(one.scatter, moments_apart[key].scatter)
    for key, sensitivity in felt.items():
        np.testing.assert_array_equal(sensitivity.total, felt_apart[key].total)


@pytest.mark.parametrize("inner", [31, 19])
def test_a_tied_autoencoder_is_cut_exactly_and_repaired_around_its_weight(inner: int, bench: type[Bench]) -> None:
    made = bench(autoencoder(inner, tied=True))
    keeping = made.keep(0.5)
    assert len(keeping) == 2
    assert_exact(made.case, keeping)
    assert {one.obstacle for one in made.linears[1:3]} == {"its weight is also used by other operators"}
    repaired = made.stepwise(keeping)
    assert made.error(keeping, repaired.replacements) < 0.95 * made.error(keeping)


@pytest.mark.parametrize("score", ["joint", "pairwise", "wanda"])
def test_the_whole_of_it(score: str) -> None:
    x = {"x": np.random.default_rng(1).normal(size=(COUNT, 7)).astype(np.float32)}
    result = prune(autoencoder(31, tied=True), x, PruneOptions(keep=0.5, score=score, threads=1, latency=False))
    assert [choice.count for choice in result.plan.choices] == [10, 16]


def test_readings_alike_are_one_operator() -> None:
    first, *_ = (one for one in linears_of(two_towers(dilation=1)) if len(one.nodes) > 1)
    assert len(first.nodes) == 2
    assert first.obstacle is None


def test_readings_through_other_windows_are_not(bench: type[Bench]) -> None:
    found = linears_of(two_towers(dilation=2))
    assert [len(one.nodes) for one in found] == [1] * 4
    made = bench(two_towers(dilation=2))
    keeping = made.keep(0.5)
    assert_exact(made.case, keeping)
    assert made.error(keeping, made.stepwise(keeping).replacements) < 0.95 * made.error(keeping)
