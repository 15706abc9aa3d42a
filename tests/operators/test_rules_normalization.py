import onnx
import pytest

from tests.support.build import Build, between_convs, between_gemms, between_matmuls
from tests.support.oracle import Case, assert_frozen, assert_prunes, cut_all, run


def test_batch_norm_after_a_convolution() -> None:
    case = assert_prunes(between_convs(lambda b, x: b.batch_norm(x, 11)), 11)
    assert case.graph.layers[0].grade == "exact"


def test_batch_norm_after_a_gemm() -> None:
    assert_prunes(between_gemms(lambda b, x: b.batch_norm(x, 11)), 11)


def test_batch_norm_with_one_vector_for_all_parameters() -> None:
    """Exporters and simplifiers merge equal vectors: each reading is cut for itself."""

    def step(b: Build, x: str) -> str:
        ones = b.const(b.rng.uniform(0.5, 1.5, size=11))
        return b.op("BatchNormalization", x, ones, ones, ones, ones)

    assert_prunes(between_convs(step), 11)


def test_instance_norm_is_exact_in_its_channels() -> None:
    step = between_convs(lambda b, x: b.op("InstanceNormalization", x, b.vector(11), b.vector(11)))
    assert assert_prunes(step, 11).graph.layers[0].grade == "exact"


@pytest.mark.parametrize("axis", [-1, 2])
def test_layer_norm_makes_its_axis_renormalising(axis: int) -> None:
    step = between_matmuls(lambda b, x: b.op("LayerNormalization", x, b.vector(11), b.vector(11), axis=axis))
    case = Case.of(step)
    (layer,) = case.graph.layers
    assert (layer.size, layer.grade, layer.kind) == (11, "renormalising", "width")
    cut = case.cut(cut_all(case))
    onnx.checker.check_model(cut, full_check=True)
    run(cut, case.feeds())


def test_layer_norm_leaves_other_layers_exact() -> None:
    b = Build()
    stream = b.dense(b.input("N", 5, 7), 7, 11)
    normed = b.op("LayerNormalization", stream, b.vector(11), b.vector(11))
    inner = b.dense(b.op("Relu", b.dense(normed, 11, 13)), 13, 11)
    case = Case.of(b.proto(b.dense(b.op("Add", stream, inner), 11, 3)))
    assert {layer.size: (layer.grade, layer.kind) for layer in case.graph.layers} == {
        11: ("renormalising", "width"),
        13: ("exact", "ffn"),
    }


def test_layer_norm_over_several_axes_marks_them_all() -> None:
    b = Build()
    hidden = b.dense(b.op("MatMul", b.weight(13, 5), b.input("N", 5, 7)), 7, 11)  # (N, 13, 11), both of weights
    normed = b.op("LayerNormalization", hidden, b.weight(13, 11), b.weight(13, 11), axis=1)
    case = Case.of(b.proto(b.dense(b.op("MatMul", b.weight(3, 13), normed), 11, 5)))
    assert {layer.size: layer.grade for layer in case.graph.layers} == {11: "renormalising", 13: "renormalising"}


@pytest.mark.parametrize("axis", [-1, 2])
def test_softmax_freezes_the_axis_it_runs_over(axis: int) -> None:
    assert_frozen(between_matmuls(lambda b, x: b.op("Softmax", x, axis=axis, name="sm")), "Softmax sm runs over it")


def test_softmax_passes_other_axes() -> None:
    assert_prunes(between_matmuls(lambda b, x: b.op("Softmax", x, axis=1)), 11)


def test_softmax_before_opset_13_runs_over_all_axes_from_its_own_on() -> None:
    assert_frozen(
        between_matmuls(lambda b, x: b.op("Softmax", x, axis=1, name="sm"), opset=12), "Softmax sm runs over it"
    )
