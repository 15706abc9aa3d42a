import numpy as np
import onnx
import pytest

from tests.support.build import Build
from tests.support.oracle import Case, assert_exact, assert_frozen, assert_prunes, cut_all


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", ["vector", "row", "scalar", "none"])
def test_gemm(trans_b: int, bias: str) -> None:
    b = Build()
    x = b.input("N", 7)
    bias_of = {"vector": [b.vector(11)], "row": [b.weight(1, 11)], "scalar": [b.const(np.float32(0.5))], "none": []}[
        bias
    ]
    weight = b.weight(11, 7) if trans_b else b.weight(7, 11)
    hidden = b.op("Gemm", x, weight, *bias_of, transB=trans_b, alpha=0.75, beta=1.25)
    assert_prunes(b.proto(b.gemm(hidden, 11, 5)), 11)


def test_gemm_with_a_transposed_activation() -> None:
    b = Build()
    hidden = b.gemm(b.input("N", 7), 7, 11)
    turned = b.op("Transpose", hidden, perm=[1, 0])
    assert_prunes(b.proto(b.op("Gemm", turned, b.weight(11, 5), b.vector(5), transA=1)), 11)


def test_gemm_of_two_activations_is_cut_on_both() -> None:
    b = Build()
    x = b.input(3, 7)
    left, right = b.gemm(x, 7, 11), b.gemm(x, 7, 11)
    product = b.op("Gemm", left, right, transB=1)  # (3, 3): contracts over 11 channels of both
    assert_prunes(b.proto(product), 11)


def test_matmul_and_add() -> None:
    b = Build()
    assert_prunes(b.proto(b.dense(b.dense(b.input("N", 5, 7), 7, 11), 11, 3)), 11)


def test_the_bias_may_come_first_in_the_add() -> None:
    b = Build()
    hidden = b.op("Add", b.vector(11), b.op("MatMul", b.input("N", 7), b.weight(7, 11)))
    assert_prunes(b.proto(b.gemm(hidden, 11, 5)), 11)


@pytest.mark.parametrize("shape", [(11,), (11, 1)])
def test_matmul_with_a_vector(shape: tuple[int, ...]) -> None:
    b = Build()
    hidden = b.dense(b.input("N", 5, 7), 7, 11)
    assert_prunes(b.proto(b.op("MatMul", hidden, b.weight(*shape))), 11)


def test_a_vector_times_a_matrix() -> None:
    b = Build()
    hidden = b.op("Squeeze", b.gemm(b.input(1, 7), 7, 11), b.ints(0))
    assert_prunes(b.proto(b.op("MatMul", hidden, b.weight(11, 5))), 11)


def test_the_dot_product_of_two_vectors() -> None:
    b = Build()
    x = b.input(1, 7)
    left, right = (b.op("Squeeze", b.gemm(x, 7, 11), b.ints(0)) for _ in range(2))
    assert_prunes(b.proto(b.op("MatMul", left, right)), 11)


def test_a_weight_on_the_left() -> None:
    """y = W x, as a mixer's layer over the tokens."""
    b = Build()
    hidden = b.op("MatMul", b.weight(11, 5), b.input("N", 5, 7))  # (N, 11, 7)
    assert_prunes(b.proto(b.op("MatMul", b.weight(3, 11), hidden)), 11)


def test_a_batched_weight_broadcasts() -> None:
    b = Build()
    hidden = b.op("MatMul", b.input("N", 5, 7), b.weight(1, 7, 11, fan_in=7))
    assert_prunes(b.proto(b.op("MatMul", hidden, b.weight(11, 3))), 11)


@pytest.mark.parametrize("form", ["Transpose", "Identity", "Constant"])
def test_a_weight_that_is_no_initializer(form: str) -> None:
    b = Build()
    x = b.input("N", 7)
    if form == "Constant":
        weight = b.op("Constant", value=onnx.numpy_helper.from_array(b.rng.normal(size=(7, 11)).astype(np.float32)))
    else:
        stored = b.weight(11, 7) if form == "Transpose" else b.weight(7, 11)
        weight = b.op(form, stored)
    assert_prunes(b.proto(b.gemm(b.op("MatMul", x, weight), 11, 5)), 11)


def test_a_weight_shared_by_two_towers_has_one_layer() -> None:
    b = Build()
    x, y = b.input("N", 7, name="x"), b.input("N", 7, name="y")
    first, second = b.weight(7, 11), b.weight(11, 5)
    towers = [b.op("MatMul", b.op("Relu", b.op("MatMul", tower, first)), second) for tower in (x, y)]
    assert_prunes(b.proto(b.op("Sub", *towers)), 11)


def test_attention_is_cut_in_heads_keys_and_values() -> None:
    b = Build()
    x, heads, size = b.input("N", 5, 7), 3, 5
    parts = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        split = b.reshape(b.dense(x, 7, heads * size), 0, -1, heads, size)
        parts.append(b.op("Transpose", split, perm=order))
    scores = b.op("Softmax", b.op("MatMul", parts[0], parts[1]), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, parts[2]), perm=[0, 2, 1, 3])
    case = Case.of(b.proto(b.dense(b.reshape(mixed, 0, -1, heads * size), heads * size, 7)))
    layers = sorted((layer.size, layer.kind, layer.parts) for layer in case.graph.layers)
    assert layers == [(3, "heads", 1), (5, "qk", 3), (5, "value", 3)]
    assert_exact(case, cut_all(case))


# -- convolutions --

CONVOLUTIONS = {
    "plain": {},
    "strides": {"strides": [2, 1]},
    "dilations": {"dilations": [1, 2], "pads": [1, 2, 1, 2]},
    "uneven pads": {"pads": [0, 1, 2, 0]},
    "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "same lower": {"auto_pad": "SAME_LOWER"},
    "valid": {"auto_pad": "VALID"},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str) -> None:
    b = Build()
    hidden = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, 11, **CONVOLUTIONS[name]))
    assert_prunes(b.proto(b.conv(hidden, 11, 7, **CONVOLUTIONS[name])), 11)


@pytest.mark.parametrize("kernel", [(3,), (3, 1, 3)])
def test_convolution_over_other_numbers_of_axes(kernel: tuple[int, ...]) -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, *(5, 7, 5)[: len(kernel)]), 3, 11, kernel=kernel)
    assert_prunes(b.proto(b.conv(hidden, 11, 7, kernel=kernel)), 11)


def test_convolution_without_bias() -> None:
    b = Build()
    hidden = b.op("Conv", b.input("N", 3, 5, 7), b.weight(11, 3, 1, 1))
    assert_prunes(b.proto(b.op("Conv", hidden, b.weight(7, 11, 1, 1))), 11)


def test_a_grouped_convolution_is_ragged_over_its_groups() -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 15)
    case = assert_prunes(b.proto(b.conv(hidden, 15, 21, group=3)), 5)
    (layer,) = case.graph.layers
    assert layer.parts == 3
    assert layer.units == 15
    cut = case.cut(cut_all(case, 2))
    weights = {t.name: tuple(t.dims) for t in cut.graph.initializer}
    assert weights[cut.graph.node[0].input[1]] == (9, 3, 3, 3)
    assert weights[cut.graph.node[1].input[1]] == (21, 3, 3, 3)


def test_whole_groups_go_where_the_next_layer_consumes_them() -> None:
    b = Build()
    hidden = b.conv(b.conv(b.input("N", 3, 5, 7), 3, 15), 15, 21, group=3)
    case = assert_prunes(b.proto(b.conv(hidden, 21, 7)), 5, 3, 7)
    (grouped,) = [
        n for n in case.cut(cut_all(case)).graph.node if len(n.attribute) and n.name == case.model.graph.nodes[1].name
    ]
    assert [a.i for a in grouped.attribute if a.name == "group"] == [2]


@pytest.mark.parametrize("multiplier", [1, 3])
def test_a_depthwise_convolution_passes_its_channels_on(multiplier: int) -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 11)
    spread = b.op("Conv", hidden, b.weight(11 * multiplier, 1, 3, 3), b.vector(11 * multiplier), group=11)
    case = assert_prunes(b.proto(b.conv(spread, 11 * multiplier, 7)), *((11,) if multiplier == 1 else (11, 3)))
    depthwise = case.cut(cut_all(case)).graph.node[1]
    assert [a.i for a in depthwise.attribute if a.name == "group"] == [10]


@pytest.mark.parametrize("group", [1, 3])
def test_a_transposed_convolution(group: int) -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 15)
    weight = b.weight(15, 21 // group, 2, 2, fan_in=15)
    wide = b.op("ConvTranspose", hidden, weight, b.vector(21), strides=[2, 2], group=group)
    assert_prunes(b.proto(b.conv(wide, 21, 7)), *((15, 21) if group == 1 else (5, 3, 7)))


def test_a_residual_block_couples_what_it_adds() -> None:
    b = Build()
    stem = b.conv(b.input("N", 3, 5, 7), 3, 11)
    block = b.conv(b.op("Relu", b.conv(stem, 11, 13)), 13, 11)
    case = assert_prunes(b.proto(b.conv(b.op("Add", stem, block), 11, 7)), 11, 13)
    assert len(case.graph.layers[0].users) == 2


# -- what stays --


def test_the_input_and_the_output_of_a_model_stay() -> None:
    b = Build()
    case = assert_frozen(b.proto(b.gemm(b.input("N", 7), 7, 11)), "it is an axis of the graph input x")
    assert [frozen.size for frozen in case.graph.frozen] == [7]


def test_space_that_a_convolution_slides_over_stays() -> None:
    """Flatten makes (channel, height, width) of it: only the channel can go."""
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 11)
    case = assert_prunes(b.proto(b.gemm(b.op("Flatten", hidden), 11 * 35, 5)), 11)
    assert {frozen.size for frozen in case.graph.frozen} >= {5, 7}
    assert "Conv" in case.reasons
    assert "slides over it" in case.reasons


def test_a_layer_of_one_unit_is_none() -> None:
    b = Build()
    assert Case.of(b.proto(b.gemm(b.gemm(b.input("N", 7), 7, 1), 1, 5))).sizes == []
