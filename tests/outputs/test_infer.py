"""What outputs mean: graphs as exporters write them, and what is to be compared of them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.support.build import Build
from tests.support.meaning import facts, meaning_of, of_type, only

# -- a last function ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "link"), [("Softmax", "softmax"), ("LogSoftmax", "softmax"), ("Sigmoid", "sigmoid")])
def test_probabilities_are_compared_before_their_function(op: str, link: str) -> None:
    b = Build()
    logits = b.gemm(b.input("N", 7), 7, 5)
    view = only(b.proto(b.op(op, logits)))
    assert (view.tensor, *facts(view)) == (logits, "classes", link, (1,), 0)
    assert not view.tentative


def test_a_hard_sigmoid_is_no_function_of_logits() -> None:
    b = Build()
    output = b.op("HardSigmoid", b.gemm(b.input("N", 7), 7, 5))
    assert only(b.proto(output)).tensor == output


def test_softmax_of_an_old_opset_runs_over_all_axes_behind_its_own() -> None:
    b = Build(opset=11)
    logits = b.conv(b.input("N", 3, 5, 7), 3, 11)
    view = only(b.proto(b.op("Softmax", logits)))
    assert (view.tensor, view.link, view.axes) == (logits, "softmax", (1, 2, 3))


def test_the_axis_is_that_of_the_tensor_before_reshapes() -> None:
    b = Build()
    logits = b.conv(b.input("N", 3, 5, 7), 3, 1)
    view = only(b.proto(b.reshape(b.op("Transpose", b.op("Sigmoid", logits), perm=[0, 2, 3, 1]), 0, 35)))
    assert (view.tensor, *facts(view)) == (logits, "map", "sigmoid", (1,), 0)
    assert view.columns == 1


def test_rounding_to_integers_and_half_precision_are_looked_through() -> None:
    b = Build()
    logits = b.gemm(b.input("N", 7), 7, 5)
    scale, zero = b.const(np.float32(0.01)), b.const(np.uint8(0))
    coded = b.op("QuantizeLinear", b.op("Softmax", logits), scale, zero)
    half = b.op("Cast", b.op("DequantizeLinear", coded, scale, zero), to=TensorProto.FLOAT16)
    assert only(of_type(b.proto(half), half, TensorProto.FLOAT16)).tensor == logits


def test_a_product_of_probabilities_is_compared_itself() -> None:
    b = Build()
    x = b.input("N", 7)
    output = b.op("Mul", b.op("Sigmoid", b.gemm(x, 7, 5)), b.op("Sigmoid", b.gemm(x, 7, 1)))
    view = only(b.proto(output))
    assert (view.tensor, view.link, view.axes) == (output, "identity", (1,))


def test_a_softmax_that_is_written_out_is_one() -> None:
    b = Build()
    logits = b.gemm(b.input("N", 7), 7, 5)
    power = b.op("Exp", b.op("Sub", logits, b.op("ReduceMax", logits, axes=[1], keepdims=1)))
    output = b.op("Div", power, b.op("ReduceSum", power, b.ints(1), keepdims=1))
    view = only(b.proto(output))
    assert (view.tensor, *facts(view)) == (logits, "classes", "softmax", (1,), 0)


def test_a_sigmoid_that_is_written_out_is_one() -> None:
    b = Build()
    logits = b.gemm(b.input("N", 7), 7, 5)
    one = b.const(np.float32(1))
    output = b.op("Div", one, b.op("Add", b.op("Exp", b.op("Neg", logits)), one))
    view = only(b.proto(output))
    assert (view.tensor, view.link) == (logits, "sigmoid")


@pytest.mark.parametrize("op", ["Gather", "Slice", "Split"])
def test_some_of_the_probabilities_stand_for_all(op: str) -> None:
    """A model that answers with the probability of one class."""
    b = Build()
    logits = b.gemm(b.input("N", 7), 7, 5)
    chances = b.op("Softmax", logits)
    output = {
        "Gather": lambda: b.op("Gather", chances, b.const(np.int64(1)), axis=1),
        "Slice": lambda: b.op("Slice", chances, b.ints(1), b.ints(3), b.ints(1)),
        "Split": lambda: b.op("Split", chances, b.ints(2, 3), axis=1, outputs=2)[1],
    }[op]()
    view = only(b.proto(output))
    assert (view.tensor, *facts(view)) == (logits, "classes", "softmax", (1,), 0)


def test_some_of_plain_numbers_stand_for_themselves() -> None:
    b = Build()
    output = b.op("Slice", b.gemm(b.input("N", 7), 7, 5), b.ints(1), b.ints(3), b.ints(1))
    assert only(b.proto(output)).tensor == output


# -- a last Concat --------------------------------------------------------------------------------------------------


def detector(b: Build, scales: int = 1) -> tuple[str, str, str]:
    """Boxes in pixels and scores, as YOLOv8 ends: (N, 4 + classes, places)."""
    x = b.input("N", 3, 5, 7)
    boxes = [b.reshape(b.conv(x, 3, 4), 0, 4, -1) for _ in range(scales)]
    scores = [b.reshape(b.conv(x, 3, 11), 0, 11, -1) for _ in range(scales)]
    box = b.op("Mul", b.op("Concat", *boxes, axis=2), b.const(np.float32(8)))
    logits = b.op("Concat", *scores, axis=2)
    return b.op("Concat", box, b.op("Sigmoid", logits), axis=1), box, logits


@pytest.mark.parametrize("scales", [1, 3])
def test_boxes_and_scores_of_a_concat_are_two_views(scales: int) -> None:
    b = Build()
    output, box, logits = detector(b, scales)
    boxes, scores = meaning_of(b.proto(output)).views
    assert (boxes.name, boxes.tensor, *facts(boxes)) == (f"{output}/boxes", box, "detections", "identity", (1,), 0)
    assert (scores.name, scores.tensor, *facts(scores)) == (
        f"{output}/scores",
        logits,
        "detections",
        "sigmoid",
        (1,),
        0,
    )
    assert boxes.weight == scores.weight == 0.5


def test_a_concat_over_scales_of_boxes_and_scores_is_compared_scale_by_scale() -> None:
    b = Build()
    x = b.input("N", 3, 5, 7)
    heads = [(b.conv(x, 3, 4), b.conv(x, 3, 11)) for _ in range(2)]
    each = [b.reshape(b.op("Concat", box, b.op("Sigmoid", score), axis=1), 0, 15, -1) for box, score in heads]
    output = b.op("Transpose", b.op("Concat", *each, axis=2), perm=[0, 2, 1])
    views = meaning_of(b.proto(output)).views
    assert [view.tensor for view in views] == [name for head in heads for name in head]
    assert [view.weight for view in views] == [0.25] * 4
    assert len({view.name for view in views}) == 4


@pytest.mark.parametrize("axis", [1, 2])
def test_a_concat_of_one_nature_is_compared_whole(axis: int) -> None:
    """Over positions, or of two features of an embedding."""
    b = Build()
    x = b.input("N", 5, 7)
    output = b.op("Concat", b.dense(x, 7, 11), b.dense(x, 7, 11), axis=axis)
    view = only(b.proto(output))
    assert (view.tensor, view.axes) == (output, (2,))


def test_a_stored_operand_of_a_concat_is_no_view() -> None:
    b = Build()
    logits = b.gemm(b.input(1, 7), 7, 5)
    output = b.op("Concat", b.op("Sigmoid", logits), b.const(np.ones((1, 2), np.float32)), axis=1)
    assert only(b.proto(output)).output == output


@pytest.mark.parametrize("op", ["Squeeze", "Unsqueeze"])
def test_the_axis_of_a_concat_is_followed_where_the_graph_says_nothing_else(op: str) -> None:
    """Behind an operator without a rule nobody knows which axes weights made: the Concat alone does."""
    b = Build()
    x = b.input(2, 13, 7)
    boxes, rows = (b.op("Transpose", b.dense(x, 7, width), perm=[0, 2, 1]) for width in (4, 3))
    if op == "Squeeze":  # (2, 1, 3, 13) -> (2, 3, 13)
        rows = b.op("Unsqueeze", rows, b.ints(1))
    else:  # (2, 3, 13) -> (2, 1, 3, 13)
        boxes = b.op("Unsqueeze", boxes, b.ints(1))
    logits = b.op("ConcatFromSequence", b.op("SequenceConstruct", rows), axis=0)
    scores = b.op(op, b.op("Sigmoid", logits), b.ints(1))
    _, view = meaning_of(b.proto(b.op("Concat", boxes, scores, axis=1 if op == "Squeeze" else 2))).views
    assert (view.tensor, view.axes) == (logits, (2,) if op == "Squeeze" else (1,))


def test_separate_boxes_and_scores_at_the_same_places_are_detections() -> None:
    b = Build()
    x = b.op("Transpose", b.reshape(b.conv(b.input("N", 3, 5, 7), 3, 13), 0, 13, -1), perm=[0, 2, 1])
    boxes, scores = b.op("Sigmoid", b.dense(x, 13, 4)), b.dense(x, 13, 11)
    assert [view.kind for view in meaning_of(b.proto(scores, boxes)).views] == ["detections", "detections"]


@pytest.mark.parametrize("size", [13, "L"])
def test_choices_of_four_at_each_token_are_no_boxes(size: int | str) -> None:
    b = Build()
    x = b.input("N", size, 7)
    outputs = [b.dense(x, 7, width) for width in (16, 4, 3)]
    assert [view.kind for view in meaning_of(b.proto(*outputs)).views] == ["values"] * 3


@pytest.mark.parametrize("link", ["identity", "softmax"])
def test_what_a_nameless_squeeze_makes_is_compared_before_it(link: str) -> None:
    """Of one sample it drops the samples' axis, too: behind it an output has one axis or two."""
    b = Build()
    row = b.op("Unsqueeze", b.gemm(b.input("N", 7), 7, 5), b.ints(1))
    output = b.op("Identity", b.op("Squeeze", row))
    view = only(b.proto(output if link == "identity" else b.op("Softmax", output, axis=-1)))
    assert (view.tensor, *facts(view)) == (row, "classes", link, (2,), 0)


def test_axes_behind_a_nameless_squeeze_are_those_of_several_samples() -> None:
    b = Build()
    row = b.op("Squeeze", b.op("Unsqueeze", b.gemm(b.input("N", 7), 7, 5), b.ints(1)))
    output = b.op("Tanh", row)
    view = only(b.proto(output))
    assert (view.tensor, *facts(view)) == (output, "classes", "identity", (1,), 0)


# -- several outputs of one tensor ----------------------------------------------------------------------------------


def test_logits_and_what_is_computed_from_them_are_compared_once() -> None:
    b = Build()
    logits = b.gemm(b.input("N", 7), 7, 5)
    chances, label = b.op("Softmax", logits), b.op("ArgMax", logits, axis=1)
    meaning = meaning_of(of_type(b.proto(logits, chances, label), label, TensorProto.INT64))
    (view,) = meaning.views
    assert (view.name, view.tensor, *facts(view)) == (logits, logits, "classes", "softmax", (1,), 0)
    assert meaning.ignored == dict.fromkeys((chances, label), f"computed from what is compared for {logits}")


# -- what is no float tensor, or of no fixed size -------------------------------------------------------------------


def test_heads_that_are_an_output_are_compared_though_their_queries_may_be_cut() -> None:
    b = Build()
    x = b.input("N", 3, 7)
    parts = [b.op("MatMul", x, b.weight(7, 10)) for _ in range(3)]
    output = b.op("MultiHeadAttention", *parts, num_heads=2, domain="com.microsoft")
    assert only(b.proto(output, dims=[("N", 3, 10)])).tensor == output


def test_labels_are_followed_back_to_logits() -> None:
    b = Build()
    logits = b.conv(b.input("N", 3, 5, 7), 3, 11)
    label = b.op("ArgMax", b.op("Softmax", logits, axis=1), axis=1, keepdims=0)
    view = only(of_type(b.proto(label), label, TensorProto.INT64))
    assert (view.name, view.tensor, *facts(view)) == (label, logits, "map", "softmax", (1,), 0)


def test_labels_as_floats_are_followed_back_too() -> None:
    b = Build()
    logits = b.gemm(b.input("N", 7), 7, 5)
    label = b.op("Cast", b.op("ArgMax", logits, axis=1, keepdims=0), to=TensorProto.FLOAT)
    view = only(b.proto(label))
    assert (view.tensor, *facts(view)) == (logits, "classes", "softmax", (1,), 0)


def test_suppressed_boxes_are_followed_back_to_boxes_and_scores() -> None:
    b = Build()
    x = b.input("N", 13, 7)
    boxes, logits = b.dense(x, 7, 4), b.op("Transpose", b.dense(x, 7, 3), perm=[0, 2, 1])
    kept = b.op("NonMaxSuppression", boxes, b.op("Sigmoid", logits), b.ints(20), b.const(np.float32([0.5])))
    flat = b.op("Gather", b.reshape(boxes, -1, 4), b.op("Gather", kept, b.const(np.int64(2)), axis=1), axis=0)
    proto = of_type(b.proto(kept, flat), kept, TensorProto.INT64)
    meaning = meaning_of(proto)
    assert [view.tensor for view in meaning.views] == [boxes, logits]
    assert [view.link for view in meaning.views] == ["identity", "sigmoid"]
    assert [view.axes for view in meaning.views] == [(2,), (1,)]
    assert [view.kind for view in meaning.views] == ["detections", "detections"]
    assert set(meaning.ignored) == {flat}


def test_a_float_output_whose_size_depends_on_values_is_followed_back() -> None:
    b = Build()
    length = b.gemm(b.input("N", 7), 7, 5)
    total = b.op("Cast", b.op("ReduceSum", b.op("Abs", length), keepdims=0), to=TensorProto.INT64)
    size = b.op("Unsqueeze", total, b.ints(0))
    mean = b.op("ReduceMean", length, keepdims=0)
    output = b.op("Mul", b.op("Expand", b.const(np.float32([1])), size), mean)
    views = meaning_of(b.proto(output, dims=[["L"]])).views
    assert [view.tensor for view in views] == [b.nodes[2].output[0], mean]
    assert [view.weight for view in views] == [0.5, 0.5]


def test_a_size_that_shapes_alone_decide_is_no_such_size() -> None:
    b = Build()
    hidden = b.dense(b.input("N", "T", 7), 7, 11)
    output = b.op("Reshape", hidden, b.op("Concat", b.op("Shape", hidden), b.ints(1), axis=0))
    assert only(b.proto(output)).tensor == output


# -- what is left out -----------------------------------------------------------------------------------------------


def test_stored_tensors_inputs_and_what_no_weight_changes_are_ignored() -> None:
    b = Build()
    x = b.input("N", 7)
    table = b.weight(5, 3)
    copy, doubled = b.op("Identity", table), b.op("Add", x, x)
    output = b.gemm(x, 7, 5)
    meaning = meaning_of(b.proto(output, table, copy, doubled, x))
    assert [view.output for view in meaning.views] == [output]
    assert meaning.ignored[table] == meaning.ignored[copy] == "stored in the file: no cut changes it"
    assert meaning.ignored[x] == "an input that is passed through"
    assert meaning.ignored[doubled] == "computed without weights: no cut changes it"


@pytest.mark.parametrize(
    ("source", "output"),
    [("state", "stateN"), ("h0", "hn"), ("past_key_values.0.key", "present.0.key"), ("cache_in", "cache_out")],
)
def test_an_output_that_is_fed_back_is_a_state(source: str, output: str) -> None:
    b = Build()
    x, h = b.input("N", 7), b.input("N", 11, name=source)
    b.nodes.append(helper.make_node("Tanh", [b.op("Add", b.gemm(x, 7, 11), b.gemm(h, 11, 11))], [output]))
    logits = b.op("Softmax", b.gemm(output, 11, 5))
    views = meaning_of(b.proto(logits, output)).views
    assert [view.kind for view in views] == ["classes", "state"]
    assert [view.weight for view in views] == [1.0, 0.1]
    assert views[1].why == f"fed back as {source}"


def test_a_picture_and_its_copy_are_no_state() -> None:
    b = Build()
    x = b.input("N", 3, 5, 7)
    b.nodes.append(helper.make_node("Identity", [b.conv(x, 3, 3)], ["x_out"]))
    score = b.op("Sigmoid", b.conv("x_out", 3, 1))
    assert [view.kind for view in meaning_of(b.proto("x_out", score)).views] == ["map", "map"]
