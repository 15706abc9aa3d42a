"""Of what kind an output is, and which axes hold its columns, where the graph has no last function that says so."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxmi.outputs.describe import describe
from tests.support.build import Build
from tests.support.meaning import facts, meaning_of, only


def test_a_recogniser_whose_time_comes_first_is_a_sequence() -> None:
    b = Build()
    steps = b.op("Transpose", b.input("N", "T", 7), perm=[1, 0, 2])
    logits = b.dense(steps, 7, 11)
    assert facts(only(b.proto(b.op("LogSoftmax", logits)))) == ("sequence", "softmax", (2,), 1)


@pytest.mark.parametrize("length", ["T", 13])
def test_an_axis_of_positions_holds_no_columns(length: int | str) -> None:
    """Where an answer starts and ends in a text: a number for each position, of any or of a fixed number."""
    b = Build()
    both = b.dense(b.input("N", length, 7), 7, 2)
    start, end = b.op("Split", both, outputs=2, axis=2)
    views = meaning_of(b.proto(*(b.op("Squeeze", name, b.ints(2)) for name in (start, end)))).views
    assert [facts(view) for view in views] == [("values", "identity", (), 0)] * 2


def test_columns_lie_where_weights_make_them_whatever_the_shape() -> None:
    b = Build()
    images = b.op("Transpose", b.conv(b.input("N", 3, 5, 7), 3, 11), perm=[0, 2, 3, 1])
    assert facts(only(b.proto(images))) == ("map", "identity", (3,), 0)


def test_position_embeddings_make_no_columns_of_positions() -> None:
    b = Build()
    tokens = b.op("Add", b.dense(b.input("N", 13, 7), 7, 11), b.weight(1, 13, 11))
    assert only(b.proto(tokens)).axes == (2,)


def test_where_weights_mix_positions_too_the_last_weights_make_the_columns() -> None:
    b = Build()
    mixed = b.op("Transpose", b.dense(b.op("Transpose", b.input("N", 13, 7), perm=[0, 2, 1]), 13, 17), perm=[0, 2, 1])
    assert only(b.proto(b.dense(mixed, 7, 11))).axes == (2,)


def test_plain_numbers_of_a_sample_may_be_classes() -> None:
    b = Build()
    view = only(b.proto(b.gemm(b.input("N", 7), 7, 5)))
    assert facts(view) == ("classes", "identity", (1,), 0)
    assert view.tentative


def test_pooled_logits_may_be_classes_and_wide_pooled_features_an_embedding() -> None:
    kinds = []
    for width in (5, 37):
        b = Build()
        pooled = b.op("GlobalAveragePool", b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, width)))
        view = only(b.proto(b.op("Flatten", pooled)))
        kinds.append((view.kind, view.tentative))
    assert kinds == [("classes", True), ("embedding", True)]


def test_an_axis_of_channels_and_places_together_holds_no_columns() -> None:
    """Objectness at all places and anchors of an image, in one row."""
    b = Build()
    output = b.reshape(b.conv(b.input("N", 3, 5, 7), 3, 2), 0, -1)
    assert facts(only(b.proto(output))) == ("values", "identity", (), 0)


def test_what_else_belongs_to_a_detector_is_of_its_kind() -> None:
    b = Build()
    x = b.input("N", 13, 7)
    boxes, scores, depth = b.dense(x, 7, 4), b.op("Sigmoid", b.dense(x, 7, 3)), b.gemm(b.op("Flatten", x), 91, 5)
    kept = b.op("NonMaxSuppression", boxes, b.op("Transpose", scores, perm=[0, 2, 1]), b.ints(20))
    rows = b.op("Gather", b.reshape(boxes, -1, 4), b.op("Gather", kept, b.const(np.int64(2)), axis=1), axis=0)
    views = meaning_of(b.proto(b.op("Add", rows, b.op("ReduceMean", depth, keepdims=0)))).views
    assert [view.kind for view in views] == ["detections"] * 3


def test_one_number_is_a_value() -> None:
    b = Build()
    assert only(b.proto(b.gemm(b.input("N", 7), 7, 1))).kind == "values"


def test_as_many_numbers_as_an_input_has_are_values() -> None:
    b = Build()
    view = only(b.proto(b.gemm(b.op("Relu", b.gemm(b.input("N", 7), 7, 5)), 5, 7)))
    assert (view.kind, view.tentative) == ("values", False)


def test_a_branch_that_is_taken_by_values_does_not_change_the_size() -> None:
    b = Build()
    hidden = b.gemm(b.input("N", 7), 7, 5)
    branches = [
        helper.make_graph(
            [helper.make_node(op, [hidden], [f"in_{op}"])],
            op,
            [],
            [helper.make_tensor_value_info(f"in_{op}", TensorProto.FLOAT, None)],
        )
        for op in ("Relu", "Neg")
    ]
    positive = b.op("Greater", b.op("ReduceMean", hidden, keepdims=0), b.const(np.float32(0)))
    output = b.op("If", positive, then_branch=branches[0], else_branch=branches[1])
    assert only(b.proto(output)).tensor == output


def test_rows_of_length_one_are_embeddings() -> None:
    b = Build()
    wide = b.gemm(b.input("N", 7), 7, 37)
    length = b.op("Clip", b.op("ReduceL2", wide, axes=[1], keepdims=1), b.const(np.float32(1e-12)))
    view = only(b.proto(b.op("Div", wide, b.op("Expand", length, b.op("Shape", wide)))))
    assert (view.kind, view.tentative) == ("embedding", False)


def test_audio_is_a_signal() -> None:
    b = Build()
    hidden = b.op("Relu", b.conv(b.input("N", 1, "T"), 1, 11, kernel=(3,)))
    assert only(b.proto(b.conv(hidden, 11, 1, kernel=(3,)))).kind == "signal"


def test_a_line_says_what_was_inferred() -> None:
    b = Build()
    logits = b.gemm(b.input("N", 7), 7, 5)
    output = b.op("Softmax", logits)
    line = f"{output}: classes, softmax over axis 1 (5 columns); before the Softmax; compared at {logits!r}"
    assert describe(meaning_of(b.proto(output))) == [line]


def test_rows_that_are_chosen_stand_by_what_chooses_them() -> None:
    """Not by the hidden rows that a cut makes narrower, and not by weights that only have another shape."""
    b = Build()
    hidden = b.op("Sigmoid", b.gemm(b.input("N", 7), 7, 11))
    score = b.reshape(b.gemm(hidden, 11, 1), -1)
    places = b.op("NonZero", b.op("Greater", score, b.const(np.float32(0))))
    rows = b.op("Gather", hidden, b.reshape(places, -1), axis=0)
    view = only(b.proto(b.op("MatMul", rows, b.op("Transpose", b.weight(3, 11)))))
    assert view.tensor == score


def test_a_number_for_a_whole_batch_of_a_fixed_size_is_not_compared() -> None:
    """No sample can be run alone, so that nothing tells whose the number is."""
    b = Build()
    hidden = b.gemm(b.input(3, 7), 7, 5)
    found = meaning_of(b.proto(hidden, b.op("ReduceMax", b.op("Tanh", hidden), keepdims=0)))
    assert [view.tensor for view in found.views] == [hidden]
    assert list(found.ignored) == ["reducemax5"]
