"""Results and streams that broadcast, and normalizations on another axis: repair goes as far as is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxmi.repair import StepOptions
from tests.repair.conftest import Bench
from tests.support.build import Build
from tests.support.oracle import assert_exact


def dueling(b: Build) -> str:
    """A value for each state, one advantage for each action, and a Relu on their sum: the value is broadcast."""
    x = b.op("Relu", b.gemm(b.input("N", 7), 7, 23))
    value = b.gemm(b.op("Relu", b.gemm(x, 23, 17)), 17, 1)
    advantage = b.gemm(b.op("Relu", b.gemm(x, 23, 19)), 19, 5)
    return str(b.op("Relu", b.op("Add", advantage, value)))


def mean_of_units(b: Build) -> str:
    x = b.input("N", 7)
    made = b.gemm(b.op("Relu", b.gemm(x, 7, 23)), 23, 5)
    return str(b.op("Add", made, b.op("ReduceMean", x, axes=[1], keepdims=1)))


def positions(b: Build) -> str:
    """A table of positions, as much of it as the samples are long, is the same for every sample."""
    x = b.input("N", "S", 7)
    length = b.op("Gather", b.op("Shape", x), b.ints(1), axis=0)
    table = b.op("Slice", b.weight(31, 13), b.ints(0), length, b.ints(0))
    made = b.op("MatMul", b.op("Relu", b.dense(x, 7, 23)), b.weight(23, 13))
    return str(b.dense(b.op("Relu", b.op("Add", made, table)), 13, 5))


def summary(b: Build) -> str:
    """What all positions have in common is added to each of them."""
    x = b.input("N", "S", 7)
    common = b.dense(b.op("ReduceMean", b.op("Relu", b.dense(x, 7, 19)), axes=[1], keepdims=1), 19, 13)
    made = b.dense(b.op("Relu", b.dense(x, 7, 23)), 23, 13)
    return str(b.dense(b.op("Relu", b.op("Add", common, made)), 13, 5))


def gate(b: Build) -> str:
    """A bottleneck attention module: the sum of a gate for each channel and one for each place gates both."""
    x = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, 13))
    channels = b.conv(b.op("GlobalAveragePool", x), 13, 7, kernel=(1, 1))
    channels = b.conv(b.op("Relu", channels), 7, 13, kernel=(1, 1))
    row_indices = b.conv(b.op("Relu", b.conv(x, 13, 5)), 5, 1)
    gated = b.op("Mul", x, b.op("Relu", b.op("Add", channels, row_indices)))
    return str(b.conv(b.op("Add", x, gated), 13, 5))


def norm_of_positions(b: Build) -> str:
    """A BatchNormalization scales positions here, of which there are as many as channels."""
    made = b.dense(b.op("Relu", b.dense(b.input("N", 13, 7), 7, 23)), 23, 13)
    return str(b.dense(b.op("Relu", b.batch_norm(made, 13)), 13, 5))


MODELS = dueling, mean_of_units, positions, summary, gate, norm_of_positions


def built(model: Callable[[Build], str]) -> onnx.ModelProto:
    b = Build(seed=7)
    return b.proto(model(b))


@pytest.mark.parametrize("model", MODELS)
def test_it_is_cut_exactly_and_repaired(model: Callable[[Build], str], bench: type[Bench]) -> None:
    made = bench(built(model))
    keeping = made.keep(0.5)
    assert_exact(made.case, keeping)
    repaired = made.stepwise(keeping)
    assert any(note.used for note in repaired.notes)
    assert made.error(keeping, repaired.replacements) < 0.95 * made.error(keeping)


def test_a_result_makes_up_for_the_error_of_what_is_broadcast_to_it(bench: type[Bench]) -> None:
    made = bench(built(dueling))
    keeping = made.keep(0.5)
    with_it, without = (made.stepwise(keeping, StepOptions(feedback=on)).replacements for on in (True, False))
    assert made.error(keeping, with_it) < made.error(keeping, without)


def test_a_stream_that_broadcasts_counts_in_every_row(bench: type[Bench]) -> None:
    """The same as a stream that was expanded in the file."""

    def expanded(b: Build) -> str:
        x = b.op("Relu", b.gemm(b.input("N", 7), 7, 23))
        value = b.gemm(b.op("Relu", b.gemm(x, 23, 17)), 17, 1)
        advantage = b.gemm(b.op("Relu", b.gemm(x, 23, 19)), 19, 5)
        return str(b.op("Relu", b.op("Add", advantage, b.op("Expand", value, b.ints(1, 5)))))

    weights = []
    for model in (dueling, expanded):
        made = bench(built(model))
        weights.append([r.weights for r in made.stepwise(made.keep(0.5)).replacements if r.linear.outputs.size == 5])
    assert len(weights[0]) == len(weights[1]) == 1
    np.testing.assert_allclose(weights[0][0], weights[1][0], rtol=1e-5, atol=1e-6)
