"""Einsum, indexing, made tensors, blocks of space, and files in odd shapes."""

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxmi.model import Model
from onnxmi.operators.einsum import parse_equation, signature
from tests.support.build import Build, between_convs, between_gemms
from tests.support.oracle import Case, assert_exact, assert_prunes, cut_all


@pytest.mark.parametrize("equation", ["nti,io->nto", "...i,io->...o", "nti,io"])
def test_an_equation_is_a_signature(equation: str) -> None:
    b = Build()
    hidden = b.op("Einsum", b.input(3, 5, 7), b.weight(7, 11), equation=equation)
    weight = b.weight(11, 2)
    if equation.endswith("io"):  # letters come back in alphabetical order: n, o, t
        hidden = b.op("Transpose", hidden, perm=[0, 2, 1])
    assert_prunes(b.proto(b.op("MatMul", hidden, weight)), 11)


def test_a_diagonal_freezes() -> None:
    assert signature(parse_equation("ii->i")) is None
    b = Build()
    square = b.op("MatMul", b.input(3, 7), b.weight(7, 3))
    assert Case.of(b.proto(b.op("Einsum", square, equation="ii->i"))).sizes == []


def test_an_expert_mixture() -> None:
    """Tokens (t), experts (e), width (d), hidden (h)."""
    b = Build()
    x, gate = b.input(5, 7), b.op("Softmax", b.gemm("x", 7, 3), axis=-1)
    hidden = b.op("Relu", b.op("Einsum", x, b.weight(3, 7, 11), equation="td,edh->teh"))
    made = b.op("Einsum", hidden, b.weight(3, 11, 7), gate, equation="teh,ehd,te->td")
    case = Case.of(b.proto(made))
    assert [(layer.size, layer.parts) for layer in case.graph.layers] == [(11, 3)]
    assert_exact(case, cut_all(case))


def test_channels_beside_looked_up_positions() -> None:
    b = Build()
    hidden = b.dense(b.input("N", 5, 7), 7, 11)
    picked = b.op("Gather", hidden, b.const(np.array([0, 3])), axis=1)
    assert_prunes(b.proto(b.dense(picked, 11, 3)), 11)


def test_of_channels_that_are_looked_up_only_the_list_is_cut() -> None:
    order = np.arange(11)[::-1].copy()
    case = assert_prunes(between_gemms(lambda b, x: b.op("Gather", x, b.const(order), axis=1)), 11)
    assert "looks positions up in it" in case.graph.frozen[0].reason or not case.graph.layers[0].makers


def test_gather_elements_along_tokens() -> None:
    b = Build()
    hidden = b.dense(b.input(3, 5, 7), 7, 11)
    index = b.op("Expand", b.const(np.zeros((3, 2, 1), np.int64)), b.ints(3, 2, 11))
    assert_prunes(b.proto(b.dense(b.op("GatherElements", hidden, index, axis=1), 11, 3)), 11)


def test_scattered_updates() -> None:
    b = Build()
    hidden = b.dense(b.input(3, 5, 7), 7, 11)
    updates = b.dense(b.input(2, 7, name="y"), 7, 11)
    made = b.op("ScatterND", hidden, b.const(np.array([[0, 1], [2, 3]])), updates)
    assert_prunes(b.proto(b.dense(made, 11, 3)), 11)


def test_a_made_tensor_is_as_large_as_what_stays() -> None:
    def step(b: Build, x: str) -> str:
        ones = b.op("ConstantOfShape", b.op("Shape", x), value=helper.make_tensor("v", 1, [1], [2.0]))
        return b.op("Concat", x, b.op("Mul", ones, x), axis=1)

    assert_prunes(between_gemms(step, after=22), 11)


def test_an_expanded_token() -> None:
    """The target says 1, or -1, where the axis stays as it is."""

    def step(b: Build, x: str) -> str:
        token = b.op("Expand", b.weight(1, 1, 11), b.ints(3, 1, 1))
        return b.op("Concat", token, x, axis=1)

    b = Build()
    made = step(b, b.dense(b.input(3, 5, 7), 7, 11))
    assert_prunes(b.proto(b.dense(made, 11, 3)), 11)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    def shuffle(b: Build, x: str) -> str:
        return b.op("DepthToSpace", x, blocksize=2, mode=mode)

    assert_prunes(between_convs(shuffle, width=44, after=11), 11)


def test_space_to_depth() -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 4, 6), 3, 11)
    assert_prunes(b.proto(b.conv(b.op("SpaceToDepth", hidden, blocksize=2), 44, 7)), 11)


def test_a_resized_image_keeps_its_channels() -> None:
    def resize(b: Build, x: str) -> str:
        return b.op("Resize", x, "", b.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest")

    assert_prunes(between_convs(resize), 11)


def test_local_functions_are_put_in_place() -> None:
    proto = between_gemms(lambda b, x: b.op("Twice", x, domain="local"))
    body = [helper.make_node("Add", ["a", "a"], ["c"])]
    proto.functions.append(helper.make_function("local", "Twice", ["a"], ["c"], body, [helper.make_opsetid("", 17)]))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info(proto.graph.node[-1].output[0], 1, ["N", 5]))
    model = Model.of(proto)
    assert not model.proto.functions
    assert Case(model).sizes == [11]


def test_old_files_list_initializers_as_inputs() -> None:
    proto = between_gemms(lambda b, x: b.op("Relu", x), opset=8)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    case = Case.of(proto)
    assert case.sizes == [11]
    cut = assert_exact(case, cut_all(case))
    onnx.checker.check_model(cut, full_check=True)


def test_an_input_with_a_default_freezes() -> None:
    proto = between_gemms(lambda b, x: b.op("Relu", x))
    tensor = proto.graph.initializer[0]
    proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert "a caller may replace" in Case.of(proto).reasons
