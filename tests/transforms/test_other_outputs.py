"""Checks of outputs that are no plain tensors: sequences, maps, and tensors of as many rows as values decide."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.graph.dataflow import Flow
from onnxmi.graph.plan import Choice, Plan
from onnxmi.verification.agreement import ModelPair
from onnxmi.verification.checks import check_equivalence, check_result, check_shapes
from tests.support.build import Build
from tests.support.oracle import Case, cut_all


def hidden(b):
    return b.op("Relu", b.gemm(b.input("N", 7), 7, 11))


def listed(b):
    made = hidden(b)
    return b.op("SequenceConstruct", b.gemm(made, 11, 3), b.gemm(made, 11, 5))


def mapped(b):
    chances = b.op("Softmax", b.gemm(hidden(b), 11, 3), axis=1)
    return b.op("ZipMap", chances, domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])


def stretched(b):
    """As many positions as the longest duration, which a linear layer makes."""
    made = hidden(b)
    duration = b.op("Mul", b.op("Abs", b.gemm(made, 11, 1)), b.const(np.float32(7)))
    longest = b.op("Cast", b.op("Ceil", b.op("ReduceMax", duration, keepdims=0)), to=onnx.TensorProto.INT64)
    shape = b.op("Concat", b.ints(1), b.op("Reshape", longest, b.ints(1)), b.ints(1), axis=0)
    return b.dense(b.op("Expand", b.op("Unsqueeze", made, b.ints(1)), shape), 11, 3)


def chosen(b, bound=0):
    """The rows of those samples whose score is above a bound."""
    made = hidden(b)
    score = b.reshape(b.op("MatMul", made, b.weight(11, 1)), -1)
    rows = b.op("NonZero", b.op("Greater", score, b.const(np.float32(bound))))
    return b.gemm(b.op("Gather", made, b.reshape(rows, -1), axis=0), 11, 3)


def case_of(end):
    b = Build()
    return Case.of(b.proto(end(b)))


@pytest.mark.parametrize("end", [listed, mapped, stretched, chosen], ids=lambda end: end.__name__)
def test_a_right_cut_passes(end):
    case = case_of(end)
    keeping = cut_all(case, drop=4)
    cut, feeds = case.cut(keeping), [case.feeds(seed) for seed in range(3)]
    checks = [
        check_equivalence(case.model, case.graph, case.probe, keeping, cut, feeds),
        check_shapes(case.graph, case.probe, keeping, cut, case.probe.feeds),
        *check_result(case.model, cut, feeds),
    ]
    assert [check.detail for check in checks if not check.passed] == []


@pytest.mark.parametrize("end", [listed, mapped, stretched, chosen], ids=lambda end: end.__name__)
def test_a_wrong_cut_fails(end):
    case = case_of(end)
    keeping = cut_all(case, drop=4)
    cut = case.cut(keeping)
    for tensor in cut.graph.initializer:
        if len(tensor.dims) == 2:
            values = onnx.numpy_helper.to_array(tensor) * np.float32(1.02)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    assert not check_equivalence(case.model, case.graph, case.probe, keeping, cut, [case.feeds()]).passed


@pytest.mark.parametrize("end", [listed, mapped], ids=lambda end: end.__name__)
def test_parts_are_compared_as_numbers(end):
    """The last bit of a number in a sequence or a map is no difference; a part that is missing is one."""
    proto = case_of(end).model.proto
    nearly = onnx.ModelProto()
    nearly.CopyFrom(proto)
    for tensor in nearly.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1 + 1e-6), tensor.name))
    case = Case.of(proto)
    found = ModelPair(proto, nearly, case.probe, [[case.feeds()]]).of([proto.graph.output[0].name])
    assert 0 < found.error < 1e-4
    assert found.passed


def test_what_values_decide_is_followed():
    for end, varies in ((stretched, True), (chosen, True), (listed, False)):
        case = case_of(end)
        assert (case.model.graph.outputs[0].name in Flow.of(case.model.graph).varying) == varies


def never(b):
    return chosen(b, bound=1e9)


@pytest.mark.parametrize("end", [stretched, chosen, never], ids=lambda end: end.__name__)
def test_rows_that_do_not_belong_together_are_not_repaired_step_by_step(end):
    """Both models choose rows of their own, or none: neither may be taken for the other's."""
    b = Build()
    rows = end(b)
    plain = b.gemm(b.op("Tanh", b.gemm("x", 7, 9)), 9, 3)
    samples = np.random.default_rng(0).normal(size=(64, 7)).astype(np.float32)
    options = onnxmi.PruneOptions(threads=1, latency=False, batch_size=2, force=True)
    proto = b.proto(plain, rows)
    layers = onnxmi.analyse(proto).graph.layers
    halves = tuple(Choice(one.name, one.kind, one.size, np.arange(0, one.size, 2)) for one in layers)
    result = onnxmi.prune(proto, {"x": samples}, options, plan=Plan(onnxmi.Model.of(proto).digest, halves, {}))
    assert all(check.passed for check in result.checks)
    assert len(result.plan.choices) == 2
