"""Branches that end a run that takes them: they are left out, and no run that succeeds gives anything else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.errors import ModelError
from onnxmi.model import Model
from onnxmi.model.bodies import nested_nodes
from onnxmi.model.fixed_inputs import with_fixed_inputs
from onnxmi.runtime.session import open_session
from tests.support.bodies import branch
from tests.support.build import Build

SIZE, UNITS = 7, 11


def squeezed(b: Build, x: str) -> str:
    """What torch writes for `x.squeeze(-1)`."""
    last = b.op("Gather", b.op("Shape", x), b.ints(-1), axis=0)
    return str(
        branch(
            b,
            b.op("Equal", last, b.ints(1)),
            lambda: b.op("Squeeze", x, b.ints(-1)),
            lambda: b.op("Identity", x),
        )
    )


def ifs(proto: onnx.ModelProto) -> int:
    return sum(node.op_type == "If" for node in nested_nodes(proto.graph))


def left_out(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model as it is looked at, and without the branches that are never taken."""
    given = Model.of(proto).proto
    return given, with_fixed_inputs(given, {})


def test_a_branch_whose_rank_nothing_takes_is_left_out() -> None:
    b = Build(seed=1)
    x = b.input("N", SIZE, "T")
    proto = b.proto(b.gemm(b.op("Relu", b.gemm(squeezed(b, x), SIZE, UNITS)), UNITS, 3), dims=[("N", 3)])
    given, made = left_out(proto)
    assert (ifs(given), ifs(made)) == (1, 0)
    feeds = {"x": np.random.default_rng(1).normal(size=(5, SIZE, 1)).astype(np.float32)}
    np.testing.assert_array_equal(*(next(iter(open_session(one).run(feeds).values())) for one in (given, made)))
    for one in (given, made):
        with pytest.raises(ModelError):
            open_session(one).run({"x": np.zeros((5, SIZE, 3), np.float32)})


def test_a_branch_that_runs_stays() -> None:
    b = Build(seed=1)
    x = b.input("N", SIZE, "T")
    flat = b.reshape(b.op("Abs", squeezed(b, x)), -1, SIZE)
    given, made = left_out(b.proto(b.gemm(flat, SIZE, 3), dims=[("M", 3)]))
    assert made is given


def test_what_a_rank_decides_behind_it_is_left_out_in_every_branch() -> None:
    b = Build(seed=1)
    x, flag = b.input("N", SIZE, "T"), b.input(1, name="flag", dtype=np.bool_)

    def one(units: int) -> str:
        flat = squeezed(b, x)
        matrix = b.op("Equal", b.op("Size", b.op("Shape", flat)), b.const(np.array(2)))
        hidden = branch(b, matrix, lambda: b.op("Tanh", flat), lambda: b.op("Unsqueeze", flat, b.ints(0)))
        return b.gemm(b.op("Relu", b.gemm(hidden, SIZE, units)), units, 3)

    given, made = left_out(b.proto(branch(b, flag, lambda: one(11), lambda: one(13)), dims=[("N", 3)]))
    assert (ifs(given), ifs(made)) == (5, 1)
    rng = np.random.default_rng(1)
    for held in (True, False):
        feeds = {"x": rng.normal(size=(5, SIZE, 1)).astype(np.float32), "flag": np.array([held])}
        np.testing.assert_array_equal(*(next(iter(open_session(one).run(feeds).values())) for one in (given, made)))


def test_nothing_is_ruled_out_where_shapes_contradict_each_other_anyway() -> None:
    """Then a contradiction behind a branch says nothing about the branch."""
    b = Build(seed=1)
    x = b.input("N", SIZE, "T")
    b.op("MatMul", b.const(np.zeros((3, 5))), b.const(np.zeros((3, 5))))
    y = b.gemm(squeezed(b, x), SIZE, 3)
    proto = b.proto(y, dims=[("N", 3)])
    assert with_fixed_inputs(proto, {}) is proto


def test_branches_stay_where_onnx_gives_up_as_one_result_has_no_type() -> None:
    b = Build(seed=1)
    x = b.op("FusedGemm", b.input("N", SIZE), b.weight(SIZE, UNITS), activation="Relu", domain="com.microsoft")
    far = b.op("Greater", b.op("ReduceSum", x, keepdims=0), b.const(np.float32(5.0)))
    y = branch(b, far, lambda: b.op("BiasGelu", x, b.vector(UNITS), domain="com.microsoft"), lambda: b.op("Relu", x))
    proto = b.proto(b.gemm(y, UNITS, 3), dims=[("N", 3)])
    for body in next(node for node in proto.graph.node if node.op_type == "If").attribute:
        elem_type = onnx.TensorProto.FLOAT if body.name == "else_branch" else onnx.TensorProto.UNDEFINED
        body.g.output[0].type.tensor_type.elem_type = elem_type
    with pytest.raises(ValueError, match="data type"):
        onnx.shape_inference.infer_shapes(proto, data_prop=True)
    given, made = left_out(proto)
    assert (ifs(given), ifs(made)) == (1, 1)
