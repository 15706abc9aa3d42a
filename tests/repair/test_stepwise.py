"""Repair of whole models, step by step and at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxmi.axes.keeping import Keeping
from onnxmi.information import NotFiniteError
from onnxmi.repair import OutputComparison, Repaired, StepOptions, repair
from tests.support.build import Build


def residual_cnn() -> onnx.ModelProto:
    b = Build(seed=3)
    x = b.op("Relu", b.batch_norm(b.conv(b.input("N", 3, 7, 11), 3, 13), 13))
    for _ in range(3):
        inner = b.op("Relu", b.batch_norm(b.conv(x, 13, 17), 17))
        x = b.op("Relu", b.op("Add", b.batch_norm(b.conv(inner, 17, 13), 13), x))
    return b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", x)), 13, 5))


def redundant_mlp() -> onnx.ModelProto:
    """Every odd hidden unit is a copy of the even one before it: half of the units can go without loss."""
    b = Build(seed=4)
    first, second = b.rng.normal(size=(13, 7)), b.rng.normal(size=(5, 26))
    x = b.op("Gemm", b.input("N", 7), b.const(np.repeat(first, 2, axis=0)), transB=1)
    return b.proto(b.op("Gemm", b.op("Relu", x), b.const(second), transB=1))


def test_duplicates_are_cut_without_loss(bench) -> None:
    made = bench(redundant_mlp())
    keeping = made.keep(0.5)
    assert made.error(keeping) > 0.3
    assert made.error(keeping, made.stepwise(keeping).replacements) < 1e-4


def test_a_deep_cnn_is_repaired_step_by_step(bench) -> None:
    made = bench(residual_cnn())
    keeping = made.keep(0.5)
    repaired = made.stepwise(keeping)
    assert made.error(keeping, repaired.replacements) < 0.6 * made.error(keeping)
    assert all(note.error_repaired <= note.error_plain for note in repaired.notes)


def test_feedback_from_the_stream_helps(bench) -> None:
    made = bench(residual_cnn())
    keeping = made.keep(0.5)
    with_it, without = (made.stepwise(keeping, StepOptions(feedback=on)).replacements for on in (True, False))
    assert made.error(keeping, with_it) < made.error(keeping, without)


def test_groups_that_stay_are_solved_each(bench) -> None:
    b = Build(seed=5)
    x = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, 33))
    x = b.op("Relu", b.conv(x, 33, 21, group=3))
    made = bench(b.proto(b.conv(x, 21, 5)))
    keeping = made.keep(0.5)
    assert made.error(keeping, made.stepwise(keeping).replacements) < 0.8 * made.error(keeping)


@pytest.mark.parametrize("few", [1, 2, 5])
def test_few_samples_do_not_make_it_worse_on_them(bench, few: int) -> None:
    made = bench(residual_cnn())
    keeping = made.keep(0.5)
    made.fit, made.validation = np.arange(few), np.arange(few, few + 2)
    made.test = made.validation
    best = repaired(made, keeping)
    assert made.error(keeping, best.replacements) <= made.error(keeping) * (1 + 1e-6)


def repaired(made, keeping: Keeping) -> Repaired:
    return repair(made.cut(keeping), made.repair_samples(), made.statistics(), OutputComparison(made.damage))


def test_a_scaled_gemm_is_repaired_in_its_own_scale(bench) -> None:
    b = Build(seed=6)
    x = b.op("Relu", b.op("Gemm", b.input("N", 7), b.const(np.repeat(b.rng.normal(size=(13, 7)), 2, axis=0)), transB=1))
    made = bench(b.proto(b.gemm(x, 26, 5, alpha=0.5, beta=3.0)))
    keeping = made.keep(0.5)
    assert made.error(keeping, made.stepwise(keeping).replacements) < 1e-4


def test_a_weight_that_others_use_is_left_as_it_is_with_a_reason(bench) -> None:
    b = Build(seed=6)
    x = b.op("Relu", b.gemm(b.input("N", 7), 7, 11))
    made_of = b.gemm(x, 11, 5)
    weight = b.nodes[-1].input[1]
    other = b.op("ReduceSum", b.op("Abs", weight), b.ints(1), keepdims=0)
    made = bench(b.proto(b.op("Add", made_of, other)))
    keeping = made.keep(0.5)
    best = repaired(made, keeping)
    left = {note.operator: note.reason for note in best.notes if not note.used}
    assert left[made.linears[-1].label] == "its weight is also used by other operators"
    assert not any(replacement.linear is made.linears[-1] for replacement in best.replacements)


def test_the_same_seed_gives_the_same_weights(bench) -> None:
    made = bench(residual_cnn())
    keeping = made.keep(0.5)
    first, second = (made.stepwise(keeping).replacements for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.weights, b.weights)
    assert replace(first[0]) is not None


def mixer() -> onnx.ModelProto:
    """Dense layers over channels and over tokens in turn: the hidden units of one are rows of the other."""
    b = Build(seed=6)
    x = b.dense(b.input("N", 5, 7), 7, 33)
    for width in (15, 21):
        tokens = b.op("Relu", b.dense(b.op("Transpose", x, perm=[0, 2, 1]), 5, width))
        x = b.op("Add", b.op("Transpose", b.dense(tokens, width, 5), perm=[0, 2, 1]), x)
    return b.proto(b.dense(x, 33, 7))


def test_rows_that_were_cut_are_left_out_of_both_sides(bench) -> None:
    made = bench(mixer())
    keeping = made.keep(0.5)
    assert len(keeping) == 3
    assert made.error(keeping, made.stepwise(keeping).replacements) < 0.9 * made.error(keeping)


def test_what_overflows_in_the_cut_model_is_not_refitted(bench, monkeypatch) -> None:
    def overflows(*_):
        raise NotFiniteError("rows hold values that are not finite")

    made = bench(redundant_mlp())
    keeping = made.keep(0.5)
    monkeypatch.setattr("onnxmi.repair.measured.Measured.regressions", overflows)
    repaired = made.stepwise(keeping)
    assert repaired.replacements == ()
    assert {note.reason for note in repaired.notes} == {"rows hold values that are not finite"}
