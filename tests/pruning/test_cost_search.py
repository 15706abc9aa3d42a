"""Budgets of cost: near what was asked for, also where sizes are coarse and repair adds to the cost."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxmi
from tests.support.build import Build


def model() -> onnx.ModelProto:
    """Three layers without biases: repair adds one to each, a few percent of the parameters."""
    b = Build(seed=3)
    x = b.input("N", 5)
    for inputs, outputs in ((5, 7), (7, 11), (11, 7)):
        x = b.op("Relu", b.op("MatMul", x, b.weight(inputs, outputs)))
    return b.proto(b.op("MatMul", x, b.weight(7, 3)))


@pytest.mark.parametrize("share", [0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("cost", ["params", "macs"])
def test_a_budget_that_the_repaired_model_misses_is_tightened_a_little(share: float, cost: str) -> None:
    proto = model()
    arrays = {proto.graph.input[0].name: np.random.default_rng(7).normal(size=(307, 5)).astype(np.float32)}
    result = onnxmi.prune(proto, arrays, threads=1, latency=False, force=True, **{cost: share})
    (goal,) = result.goals
    assert goal.met
    assert goal.reached > share - 0.25  # one unit of a layer is up to a tenth of the model
