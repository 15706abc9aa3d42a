"""Turned activations and weights on the left are refitted; a weight for each head is measured."""

from __future__ import annotations

import pytest

from onnxmi.repair import repair_one_pass, repair_stepwise
from tests.repair.conftest import Bench
from tests.support.build import Build


def turned_gemm(b: Build, hidden: str) -> str:
    return b.op("Gemm", b.op("Transpose", hidden, perm=[1, 0]), b.weight(17, 11), transA=1)


def left_weight(b: Build, hidden: str) -> str:
    columns = b.op("MatMul", b.weight(11, 17), b.op("Transpose", hidden, perm=[1, 0]))
    return b.op("Transpose", columns, perm=[1, 0])


@pytest.mark.parametrize("reader", [turned_gemm, left_weight])
def test_what_lost_inputs_is_refitted(reader) -> None:
    b = Build(seed=7)
    hidden = b.op("Relu", b.gemm(b.input("N", 7), 7, 17))
    bench = Bench(b.proto(b.gemm(b.op("Relu", reader(b, hidden)), 11, 3)))
    (layer,) = [layer for layer in bench.graph.layers if layer.size == 17]
    keeping = bench.keep(0.5)
    one_pass = repair_one_pass(bench.cut(keeping), bench.statistics())
    stepwise = repair_stepwise(bench.cut(keeping), bench.repair_samples(), shared=one_pass)
    own = [linear for linear in bench.linears if linear.nodes[0].index in layer.users]
    assert [linear.obstacle for linear in own] == [None]
    for repaired in (one_pass, stepwise):
        others = [made for made in repaired.replacements if made.linear.key != own[0].key]
        assert len(others) < len(repaired.replacements)
        assert bench.error(keeping, repaired.replacements) < 0.8 * bench.error(keeping, others)


def test_a_weight_for_each_head_is_measured_and_refitted_without_a_bias() -> None:
    b = Build(seed=7)
    heads = b.reshape(b.gemm(b.input("N", 7), 7, 3 * 11), 0, 3, 1, 11)
    made = b.op("Relu", b.op("MatMul", heads, b.weight(3, 11, 5, fan_in=11)))
    bench = Bench(b.proto(b.gemm(b.reshape(made, 0, 15), 15, 3)))
    (linear,) = [linear for linear in bench.linears if linear.groups == 3]
    assert linear.obstacle is None
    assert not linear.holds_bias
    assert bench.statistics().fit.moments[linear.key].mean.shape == (3, 11)
    keeping = bench.keep(0.5)
    one_pass = repair_one_pass(bench.cut(keeping), bench.statistics())
    own = [made for made in one_pass.replacements if made.linear.key == linear.key]
    assert len(own) == 1
    assert bench.error(keeping, own) < 0.9 * bench.error(keeping)
