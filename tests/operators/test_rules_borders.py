"""What lies at the model's borders stays: inputs, outputs, what a caller may replace, what a subgraph reads."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.build import Build
from tests.support.oracle import Case, assert_exact, assert_frozen, assert_prunes, cut_all


def test_a_hidden_layer_that_is_an_output_too_stays() -> None:
    b = Build()
    hidden = b.gemm(b.input("N", 7), 7, 11)
    assert_frozen(b.proto(b.gemm(hidden, 11, 5), hidden), f"it is an axis of the graph output {hidden}")


def test_only_the_layers_on_an_output_stay() -> None:
    b = Build()
    first = b.op("Sigmoid", b.gemm(b.input("N", 7), 7, 13))
    hidden = b.gemm(first, 13, 11)
    case = assert_prunes(b.proto(b.gemm(hidden, 11, 5), hidden), 13)
    assert [frozen.size for frozen in case.graph.frozen] == [7, 11]


def test_a_weight_that_a_caller_may_replace_stays() -> None:
    b = Build()
    weight = b.weight(7, 11)
    hidden = b.op("MatMul", b.input("N", 7), weight)
    proto = b.proto(b.gemm(hidden, 11, 5))
    proto.graph.input.append(helper.make_tensor_value_info(weight, TensorProto.FLOAT, [7, 11]))
    assert_frozen(proto, f"a caller may replace {weight}")


def _branch(b: Build, name: str, *inputs: str) -> onnx.GraphProto:
    """A subgraph without inputs that adds up outer tensors."""
    made = f"{name}_out"
    node = helper.make_node("Sum", list(inputs), [made], name=f"{name}_sum")
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(made, TensorProto.FLOAT, None)])


def _conditional(b: Build, *captured: str) -> str:
    condition = b.const(np.bool_(True))
    return b.op(
        "If", condition, then_branch=_branch(b, "t", *captured), else_branch=_branch(b, "e", captured[0]), name="if"
    )


def test_an_activation_that_a_subgraph_gives_stays() -> None:
    b = Build()
    first = b.op("Sigmoid", b.gemm(b.input("N", 7), 7, 13))
    hidden = b.gemm(first, 13, 11)
    case = assert_prunes(b.proto(b.gemm(hidden, 11, 5), _conditional(b, hidden), dims=[("N", 5), ("N", 11)]), 13)
    assert "it is an axis of the graph output if" in case.reasons


def test_a_bias_that_two_layers_and_a_subgraph_read_stays_whole_for_the_subgraph() -> None:
    """A vector is cut separately for each reading; that of a subgraph is one of them."""
    b = Build()
    shared = b.vector(11)
    hidden = b.op("Add", b.op("MatMul", b.input("N", 7), b.weight(7, 11)), shared)
    hidden = b.op("Add", b.op("MatMul", b.op("Relu", hidden), b.weight(11, 11)), shared)
    inside = _conditional(b, shared)
    case = Case.of(b.proto(b.gemm(hidden, 11, 5), inside, dims=[("N", 5), (11,)]))
    assert_exact(case, cut_all(case))


def test_a_bias_that_two_layers_read_and_that_is_an_output_stays_whole_for_the_caller() -> None:
    b = Build()
    shared = b.vector(11)
    hidden = b.op("Add", b.op("MatMul", b.input("N", 7), b.weight(7, 11)), shared)
    hidden = b.op("Add", b.op("MatMul", b.op("Relu", hidden), b.weight(11, 11)), shared)
    case = Case.of(b.proto(b.gemm(hidden, 11, 5), shared, dims=[("N", 5), (11,)]))
    assert_exact(case, cut_all(case))


@pytest.mark.parametrize("batch", ["N", 1, 3, None])
def test_the_batch_is_never_a_layer(batch: int | str | None) -> None:
    b = Build()
    assert_prunes(b.proto(b.gemm(b.op("Relu", b.gemm(b.input(batch, 7), 7, 11)), 11, 5)), 11)


def test_an_operand_whose_shape_is_not_known_freezes() -> None:
    """A sequence has no shape, nor has what an operator does with one."""
    b = Build()
    hidden = b.gemm(b.input("N", 7), 7, 11)
    again = b.op("SequenceAt", b.op("SequenceConstruct", hidden), b.const(np.int64(0)), name="at")
    case = assert_frozen(b.proto(b.gemm(again, 11, 5), dims=[("N", 5)]), "SequenceAt at")
    assert [frozen.size for frozen in case.graph.frozen] == [7, 11]
