from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.model import Model
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from tests.support.build import Build, between_gemms, between_matmuls
from tests.support.oracle import Case, assert_exact, cut_all, gap, run


def initializers(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def keep(case: Case, **counts: list[int]) -> dict[int, Kept]:
    """A plan by the order of layers: keep(case, l0=[0, 2])."""
    return {case.graph.layers[int(name[1:])].id: Kept(np.array(kept)) for name, kept in counts.items()}


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


# -- shared vectors ---------------------------------------------------------------------------------------------------


def _shared_bias(value_info: bool = False) -> tuple[Case, str]:
    b = Build()
    shared = b.vector(11)
    hidden = b.op("Add", b.op("MatMul", b.input("N", 7), b.weight(7, 11)), shared)
    hidden = b.op("Add", b.op("MatMul", b.op("Sigmoid", hidden), b.weight(11, 11)), shared)
    proto = b.proto(b.gemm(hidden, 11, 5), value_info=value_info)
    if value_info:
        proto.graph.value_info.append(helper.make_tensor_value_info(shared, 1, [11]))
    return Case.of(proto), shared


def test_a_shared_vector_that_is_cut_differently_is_copied() -> None:
    case, shared = _shared_bias()
    whole = initializers(case.model.proto)[shared]
    cut = assert_exact(case, keep(case, l0=[0, 2, 5], l1=[1, 2, 9, 10]))
    biases = [initializers(cut)[node.input[1]] for node in cut.graph.node if node.op_type == "Add"]
    assert [b.tolist() for b in biases] == [whole[[0, 2, 5]].tolist(), whole[[1, 2, 9, 10]].tolist()]
    assert len(initializers(cut)) == len(initializers(case.model.proto)) + 1


def test_a_shared_vector_that_is_cut_alike_stays_one() -> None:
    case, shared = _shared_bias()
    cut = assert_exact(case, keep(case, l0=[0, 2, 5], l1=[0, 2, 5]))
    assert [node.input[1] for node in cut.graph.node if node.op_type == "Add"] == [shared, shared]
    assert initializers(cut).keys() == initializers(case.model.proto).keys()


def test_a_shared_vector_stays_whole_where_one_layer_is_not_cut() -> None:
    case, shared = _shared_bias()
    cut = assert_exact(case, keep(case, l1=[0, 2, 5]))
    first, second = (node.input[1] for node in cut.graph.node if node.op_type == "Add")
    assert first == shared
    assert second != shared
    assert initializers(cut)[shared].shape == (11,)


@pytest.mark.parametrize("kept", [{"l0": [0, 2]}, {"l0": [0, 2], "l1": [0, 2]}, {"l0": [0, 2], "l1": [3]}])
def test_what_the_file_says_of_a_shared_vector_is_restated(kept: dict[str, list[int]]) -> None:
    case, _ = _shared_bias(value_info=True)
    onnx.checker.check_model(assert_exact(case, keep(case, **kept)), full_check=True)


# -- operands and attributes that state sizes --


def test_a_literal_that_two_reshapes_share_is_copied_for_the_one_that_is_cut() -> None:
    b = Build()
    x, target = b.input("N", 7), b.ints(0, 3, 5)
    cut_one = b.op("Reshape", b.gemm(x, 7, 15), target)
    whole = b.op("Softmax", b.op("Reshape", b.gemm(x, 7, 15), target), axis=-1)
    joined = b.op("Concat", b.op("MatMul", cut_one, b.weight(5, 9)), b.op("MatMul", whole, b.weight(5, 9)), axis=1)
    case = Case.of(b.proto(joined))
    assert case.sizes == [5]
    cut = assert_exact(case, keep(case, l0=[0, 1, 3]))
    first, second = (initializers(cut)[n.input[1]].tolist() for n in cut.graph.node if n.op_type == "Reshape")
    assert (first, second) == ([0, 3, 3], [0, 3, 5])


def test_a_literal_that_nothing_reads_any_more_is_dropped() -> None:
    b = Build()
    target = b.ints(0, 3, 5)
    proto = b.proto(b.op("MatMul", b.op("Reshape", b.gemm(b.input("N", 7), 7, 15), target), b.weight(5, 9)))
    case = Case.of(proto)
    cut = assert_exact(case, cut_all(case))
    assert target not in initializers(cut)
    assert len(initializers(cut)) == len(initializers(proto))


@pytest.mark.parametrize(
    ("target", "wanted"), [((0, 3, 5), [0, 3, 2]), ((0, 3, -1), [0, 3, -1]), ((-1, 3, 5), [-1, 3, 2])]
)
def test_zero_and_minus_one_keep_their_meaning(target: tuple[int, ...], wanted: list[int]) -> None:
    b = Build()
    heads = b.reshape(b.gemm(b.input("N", 7), 7, 15), *target)
    case = Case.of(b.proto(b.op("MatMul", heads, b.weight(5, 9))))
    cut = assert_exact(case, keep(case, l0=[1, 4]))
    (reshape,) = (node for node in cut.graph.node if node.op_type == "Reshape")
    stated = initializers(cut)[reshape.input[1]].tolist()
    assert stated == wanted or stated == list(target)


def _entry(b: Build, shape: str, axis: int) -> str:
    return b.op("Unsqueeze", b.op("Gather", shape, b.const(np.int64(axis)), axis=0), b.ints(0))


def test_a_computed_target_is_scaled_where_its_axis_is_cut() -> None:
    """Shape -> Gather -> Concat -> Reshape: the arithmetic goes on seeing the old sizes."""
    b = Build()
    hidden = b.op("Sigmoid", b.dense(b.input("N", "T", 7), 7, 15))
    shape = b.op("Shape", hidden)
    merged = b.op("Concat", b.ints(-1), _entry(b, shape, 2), axis=0)
    flat = b.gemm(b.op("Reshape", hidden, merged), 15, 5)
    again = b.op("Concat", _entry(b, shape, 0), _entry(b, shape, 1), b.ints(5), axis=0)
    case = Case.of(b.proto(b.op("Reshape", flat, again), dims=[("N", "T", 5)]))
    cut = assert_exact(case, keep(case, l0=[0, 1, 3, 14]))
    other = {"x": np.random.default_rng(3).normal(size=(5, 13, 7)).astype(np.float32)}
    assert gap(run(case.masked(keep(case, l0=[0, 1, 3, 14])), other), run(cut, other)) < 1e-5


def test_a_split_of_a_computed_size() -> None:
    """Heads split in thirds by arithmetic on the shape."""
    b = Build()
    hidden = b.gemm(b.input("N", 7), 7, 21)
    third = b.op("Div", _entry(b, b.op("Shape", hidden), 1), b.ints(3))
    parts = b.op("Split", hidden, b.op("Concat", third, third, third, axis=0), outputs=3, axis=1)
    joined = b.op("Mul", b.op("Add", parts[0], parts[1]), parts[2])
    case = Case.of(b.proto(b.gemm(joined, 7, 5)))
    assert case.sizes == [7]
    assert_exact(case, keep(case, l0=[0, 5]))


def test_a_scale_computed_from_a_shape_keeps_its_value() -> None:
    """Attention that divides by the root of Shape(q)[-1]: cutting head dimensions must not change the temperature."""

    def step(b: Build, x: str) -> str:
        width = b.op("Gather", b.op("Shape", x), b.const(np.int64(-1)), axis=0)
        return b.op("Div", x, b.op("Sqrt", b.op("Cast", width, to=1)))

    case = Case.of(between_matmuls(step))
    assert_exact(case, keep(case, l0=[2, 3, 7]))


def test_shape_may_start_and_end_within_the_axes() -> None:
    def step(b: Build, x: str) -> str:
        width = b.op("Squeeze", b.op("Shape", x, start=2, end=3), b.ints(0))
        tokens = b.op("Squeeze", b.op("Shape", x, start=-2, end=-1), b.ints(0))
        return b.op("Mul", x, b.op("Add", b.op("Cast", width, to=1), b.op("Cast", tokens, to=1)))

    case = Case.of(between_matmuls(step))
    assert_exact(case, keep(case, l0=[2, 3, 7]))


def test_the_group_of_a_convolution_is_restated() -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 11)
    deep = b.op("Conv", hidden, b.weight(11, 1, 3, 3), group=11)
    case = Case.of(b.proto(b.conv(deep, 11, 7)))
    cut = assert_exact(case, keep(case, l0=[0, 4, 5, 8]))
    assert attributes(cut.graph.node[1])["group"] == 4


def test_the_sizes_of_a_split_are_restated_as_operand_and_as_attribute() -> None:
    for opset in (12, 17):
        b = Build(opset=opset)
        hidden = b.gemm(b.input("N", 7), 7, 18)
        sizes = {"split": [7, 11]} if opset == 12 else {}
        operands = [] if opset == 12 else [b.ints(7, 11)]
        one, two = b.op("Split", hidden, *operands, outputs=2, axis=1, **sizes)
        case = Case.of(b.proto(b.op("Add", b.gemm(one, 7, 5), b.gemm(two, 11, 5))))
        cut = assert_exact(case, keep(case, l0=[0, 4, 5], l1=[1, 10]))
        (split,) = (node for node in cut.graph.node if node.op_type == "Split")
        stated = attributes(split)["split"] if opset == 12 else initializers(cut)[split.input[1]].tolist()
        assert stated == [3, 2]


# -- what the file says -----------------------------------------------------------------------------------------------


def test_value_info_is_restated() -> None:
    b = Build()
    hidden = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, 11))
    proto = b.proto(b.gemm(b.op("Flatten", hidden), 11 * 35, 5), value_info=True)
    for tensor in list(proto.graph.initializer):  # the newer exporter states these too
        proto.graph.value_info.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    case = Case.of(proto)
    cut = assert_exact(case, cut_all(case, 4))
    onnx.checker.check_model(cut, full_check=True)
    (info,) = (v for v in cut.graph.value_info if v.name == hidden)
    assert [d.dim_value or d.dim_param for d in info.type.tensor_type.shape.dim] == ["N", 7, 5, 7]


def test_a_plan_that_keeps_everything_is_the_identity() -> None:
    b = Build()
    hidden = b.op("Relu", b.gemm(b.input("N", 7), 7, 11))
    proto = b.proto(b.gemm(hidden, 11, 5), value_info=True)
    case = Case.of(proto)
    whole = {layer.id: Kept(np.arange(layer.size)) for layer in case.graph.layers}
    assert case.cut({}).SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)
    assert case.cut(whole).SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def test_the_source_is_not_changed() -> None:
    case, _ = _shared_bias(value_info=True)
    before = case.model.proto.SerializeToString(deterministic=True)
    case.cut(cut_all(case, 5))
    case.masked(cut_all(case, 5))
    assert case.model.proto.SerializeToString(deterministic=True) == before


def test_what_the_file_says_of_itself_is_kept() -> None:
    proto = between_gemms(lambda b, x: b.op("Relu", x))
    proto.producer_name, proto.producer_version, proto.domain = "pytorch", "2.9", "ai.example"
    proto.model_version, proto.doc_string, proto.ir_version = 7, "a model", 8
    proto.metadata_props.add(key="author", value="me")
    proto.graph.doc_string, proto.graph.name = "a graph", "main"
    proto.graph.node[1].doc_string = "an activation"
    proto.graph.node[1].metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value="['Linear']")
    proto.graph.input[0].doc_string = "pixels"
    case = Case.of(proto)
    cut = case.cut(cut_all(case, 3))
    expected = onnx.ModelProto()
    expected.CopyFrom(proto)
    for tensor in (*cut.graph.initializer, *expected.graph.initializer):
        tensor.ClearField("raw_data")
        tensor.ClearField("dims")
    assert cut.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_the_order_of_nodes_and_names_of_what_stays_is_kept() -> None:
    case, _ = _shared_bias()
    cut = case.cut(cut_all(case))
    assert [n.name for n in cut.graph.node] == [n.name for n in case.model.proto.graph.node]
    assert [list(n.output) for n in cut.graph.node] == [list(n.output) for n in case.model.proto.graph.node]


def test_float16_stays_float16() -> None:
    b = Build(dtype=np.float16)
    hidden = b.op("Relu", b.gemm(b.input("N", 7), 7, 11))
    case = Case.of(b.proto(b.gemm(hidden, 11, 5)))
    cut = assert_exact(case, cut_all(case, 3), tolerance=5e-3)
    assert {array.dtype for array in initializers(cut).values()} == {np.dtype(np.float16)}


def test_float64_stays_float64() -> None:
    b = Build(dtype=np.float64)
    case = Case.of(b.proto(b.gemm(b.op("Tanh", b.gemm(b.input("N", 7), 7, 11)), 11, 5)))
    assert_exact(case, cut_all(case, 3), tolerance=1e-12)


def test_a_stored_weight_in_a_constant_node_is_cut_there() -> None:
    b = Build()
    weight = numpy_helper.from_array(b.rng.normal(size=(7, 11)).astype(np.float32))
    hidden = b.op("MatMul", b.input("N", 7), b.op("Constant", value=weight))
    case = Case.of(b.proto(b.gemm(hidden, 11, 5)))
    cut = assert_exact(case, cut_all(case, 3))
    (node,) = (n for n in cut.graph.node if n.op_type == "Constant")
    assert list(attributes(node)["value"].dims) == [7, 8]


def test_the_same_plan_gives_the_same_bytes() -> None:
    case, _ = _shared_bias()
    keeping = keep(case, l0=[0, 2, 5], l1=[1, 2, 9])
    again = Case.of(case.model.proto)
    first, second = (c.cut(keeping).SerializeToString(deterministic=True) for c in (case, again))
    assert first == second


def test_a_model_that_is_cut_can_be_cut_again() -> None:
    """Two plans in a row are as good as one."""
    case, _ = _shared_bias()
    once = Case.of(case.cut(keep(case, l0=[0, 2, 5, 7], l1=[1, 2, 9, 10])))
    twice = once.cut(keep(once, l0=[1, 3], l1=[0, 1, 3]))
    direct = case.cut(keep(case, l0=[2, 7], l1=[1, 2, 10]))
    assert gap(run(direct, case.feeds()), run(twice, case.feeds())) == 0.0


def test_one_unit_may_be_all_that_stays() -> None:
    case, _ = _shared_bias()
    assert_exact(case, keep(case, l0=[10], l1=[0]))


def test_rewrite_takes_a_model_that_was_wrapped_without_a_file() -> None:
    case, _ = _shared_bias()
    model = Model.of(case.model.proto)
    assert prune_channels(Cut(replace(case.analysis, model=model), Keeping())).graph.name == "g"


@pytest.mark.parametrize("literal", [True, False])
def test_a_one_that_broadcasts_stays_one(literal: bool) -> None:
    """The shape that an Expand states may have ones where the tensor itself is wider."""
    b = Build()
    x = b.input("N", 5, 7)
    hidden, narrow = b.dense(x, 7, 11), b.dense(x, 7, 1)
    shape = b.ints(1, 5, 1) if literal else b.op("Shape", narrow)
    case = Case.of(b.proto(b.dense(b.op("Expand", hidden, shape), 11, 3)))
    assert case.sizes == [11]
    assert_exact(case, cut_all(case, 5))
