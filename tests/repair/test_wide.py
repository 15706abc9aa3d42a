"""Operators with too many inputs and outputs for the moments of both together: they are repaired in one pass."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.repair import repair_one_pass, repair_stepwise, stepwise
from tests.support.build import Build


def mlp() -> onnx.ModelProto:
    b = Build(seed=6)
    x = b.op("Relu", b.gemm(b.input("N", 7), 7, 26))
    x = b.op("Relu", b.gemm(x, 26, 19))
    return b.proto(b.gemm(x, 19, 53))  # 19 inputs and 53 outputs: the widest


@pytest.mark.parametrize(("widest", "stepped"), [(72, 3), (71, 2)])
def test_the_widest_is_taken_from_the_one_pass_repair(bench, monkeypatch, widest, stepped) -> None:
    made = bench(mlp())
    keeping = made.keep(0.5)
    cut = made.cut(keeping)
    shared = repair_one_pass(cut, made.statistics())
    operator_cuts: list[str] = []
    real = stepwise.OperatorCut.of
    monkeypatch.setattr(stepwise.OperatorCut, "of", lambda *args: operator_cuts.append(args[1].label) or real(*args))
    monkeypatch.setattr(stepwise, "WIDEST", widest)
    repaired = repair_stepwise(cut, made.repair_samples(), shared=shared)
    assert len(operator_cuts) == stepped
    last = made.linears[-1].label
    mine, theirs = (next(r for r in one.replacements if r.linear.label == last).shift for one in (repaired, shared))
    assert np.array_equal(mine, theirs) == (stepped == 2)
    assert [note.operator for note in repaired.notes].count(last) == 1
    assert made.error(keeping, repaired.replacements) < 0.8 * made.error(keeping)
