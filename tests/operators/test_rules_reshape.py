import numpy as np
import pytest

from tests.support.build import Build, between_convs, between_gemms, between_matmuls
from tests.support.oracle import Case, assert_exact, assert_frozen, assert_prunes, cut_all, random_plan


def test_flatten_makes_a_product() -> None:
    b = Build()
    hidden = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, 11))
    assert_prunes(b.proto(b.gemm(b.op("Flatten", hidden), 11 * 35, 5)), 11)


def test_flatten_in_the_middle() -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 11)
    turned = b.op("Transpose", hidden, perm=[0, 2, 1, 3])
    assert_prunes(b.proto(b.op("MatMul", b.op("Flatten", turned, axis=2), b.weight(77, 5))), 11)


# Every way to say (N, 3 * 5) as (N, 3, 5).
@pytest.mark.parametrize("target", [(0, 3, 5), (-1, 3, 5), (0, 3, -1), (0, -1, 5)])
def test_reshape_refines(target: tuple[int, ...]) -> None:
    b = Build()
    heads = b.reshape(b.gemm(b.input("N", 7), 7, 15), *target)
    assert_prunes(b.proto(b.op("MatMul", heads, b.weight(5, 9))), 5)


def test_reshape_back_makes_a_product_whose_inner_atom_is_ragged() -> None:
    b = Build()
    heads = b.op("Sigmoid", b.reshape(b.gemm(b.input("N", 7), 7, 15), 0, 3, 5))
    case = assert_prunes(b.proto(b.gemm(b.reshape(heads, 0, 15), 15, 4)), 5, 3)
    outer, inner = sorted(case.graph.layers, key=lambda layer: layer.size)
    assert (inner.size, inner.outer_atom, inner.parts) == (5, outer.id, 3)
    assert (outer.size, outer.outer_atom) == (3, None)


def test_an_inner_atom_that_something_carries_alone_is_not_ragged() -> None:
    """A rotary table, or a weight per head dimension."""
    b = Build()
    heads = b.op("Mul", b.reshape(b.gemm(b.input("N", 7), 7, 15), 0, 3, 5), b.vector(5))
    case = assert_prunes(b.proto(b.gemm(b.reshape(heads, 0, 15), 15, 4)), 5, 3)
    assert [layer.outer_atom for layer in case.graph.layers] == [None, None]


def test_reshape_with_a_computed_target() -> None:
    b = Build()
    hidden = b.gemm(b.input("N", 7), 7, 15)
    batch = b.op("Unsqueeze", b.op("Gather", b.op("Shape", hidden), b.const(np.int64(0)), axis=0), b.ints(0))
    heads = b.op("Reshape", hidden, b.op("Concat", batch, b.ints(3), b.ints(5), axis=0))
    assert_prunes(b.proto(b.op("MatMul", heads, b.weight(5, 9))), 5)


def test_reshape_that_does_not_align_freezes() -> None:
    b = Build()
    shuffled = b.op("Reshape", b.dense(b.input("N", 5, 7), 7, 9), b.ints(0, 9, 5), name="r")
    assert_frozen(b.proto(b.op("MatMul", shuffled, b.weight(5, 3))), "Reshape r cannot align its shapes")


def test_transpose_moves_axes() -> None:
    b = Build()
    turned = b.op("Transpose", b.conv(b.input("N", 3, 5, 7), 3, 11), perm=[0, 2, 3, 1])
    assert_prunes(b.proto(b.op("MatMul", turned, b.weight(11, 5))), 11)


def test_transpose_reverses_all_axes_unless_told() -> None:
    b = Build()
    turned = b.op("Transpose", b.dense(b.input("N", 5, 7), 7, 11))  # (11, 5, N)
    assert_prunes(b.proto(b.op("MatMul", b.weight(3, 11), b.op("Transpose", turned, perm=[1, 0, 2]))), 11)


@pytest.mark.parametrize("groups", [3, 5])
def test_a_channel_shuffle_is_cut_in_both_factors_but_is_ragged_in_none(groups: int) -> None:
    """After it the units of a ragged set would have to be in another order than before it."""
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 15)
    apart = b.op("Transpose", b.reshape(hidden, 0, groups, 15 // groups, 5, 7), perm=[0, 2, 1, 3, 4])
    case = assert_prunes(b.proto(b.conv(b.reshape(apart, 0, 15, 5, 7), 15, 7)), 3, 5)
    assert [layer.outer_atom for layer in case.graph.layers] == [None, None]


def test_a_shuffle_added_to_its_input_is_left_alone() -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 15)
    apart = b.op("Transpose", b.op("Reshape", hidden, b.ints(0, 3, 5, 5, 7)), perm=[0, 2, 1, 3, 4])
    joined = b.op("Add", hidden, b.reshape(apart, 0, 15, 5, 7), name="sum")
    assert_frozen(b.proto(b.conv(joined, 15, 7)), "Add sum cannot align its shapes")


def test_an_atom_multiplied_with_itself_is_left_alone() -> None:
    """As above, where the two factors have one size: both become the same atom."""
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 9)
    apart = b.op("Transpose", b.reshape(hidden, 0, 3, 3, 5, 7), perm=[0, 2, 1, 3, 4])
    joined = b.op("Add", hidden, b.reshape(apart, 0, 9, 5, 7))
    assert_frozen(b.proto(b.conv(joined, 9, 7)), "it is multiplied with itself on one axis")


def test_a_layer_is_not_ragged_over_an_atom_that_is_multiplied_with_itself() -> None:
    """Which of the two indices would say which units stay? Found by the random models."""
    b = Build()
    outer = b.conv(b.input("N", 3, 5, 7), 3, 9)
    hidden = b.conv(outer, 9, 9, group=3)
    apart = b.op("Transpose", b.reshape(hidden, 0, 3, 3, 5, 7), perm=[0, 2, 1, 3, 4])
    joined = b.op("Add", hidden, b.reshape(apart, 0, 9, 5, 7))
    case = Case.of(b.proto(b.conv(joined, 9, 7)))
    assert [(layer.size, layer.outer_atom) for layer in case.graph.layers] == [(3, None)]
    assert_exact(case, cut_all(case))


@pytest.mark.parametrize("axis", [1, -3])
def test_concat_makes_a_sum(axis: int) -> None:
    b = Build()
    x = b.input("N", 3, 5, 7)
    joined = b.op("Concat", b.conv(x, 3, 11), b.conv(x, 3, 13), axis=axis)
    case = assert_prunes(b.proto(b.conv(joined, 24, 7)), 11, 13)
    assert_exact(case, {case.graph.layers[1].id: cut_all(case)[case.graph.layers[1].id]})


def test_concat_of_a_tensor_with_itself() -> None:
    b = Build()
    hidden = b.gemm(b.input("N", 7), 7, 11)
    assert_prunes(b.proto(b.gemm(b.op("Concat", hidden, b.op("Relu", hidden), hidden, axis=1), 33, 5)), 11)


def test_concat_with_a_stored_tensor() -> None:
    """A class token: the other axes are tied."""
    b = Build()
    hidden = b.dense(b.input(3, 5, 7), 7, 11)
    joined = b.op("Concat", b.weight(3, 1, 11), hidden, axis=1)
    assert_prunes(b.proto(b.dense(joined, 11, 3)), 11)


def test_a_dense_block() -> None:
    b = Build()
    stem = b.conv(b.input("N", 3, 5, 7), 3, 5)
    one = b.op("Concat", stem, b.conv(stem, 5, 7), axis=1)
    two = b.op("Concat", one, b.conv(b.batch_norm(one, 12), 12, 11), axis=1)
    assert_prunes(b.proto(b.conv(two, 23, 7)), 5, 7, 11)


@pytest.mark.parametrize("axis", [1, -1])
def test_split_with_sizes(axis: int) -> None:
    b = Build()
    one, two = b.op("Split", b.gemm(b.input("N", 7), 7, 18), b.ints(7, 11), outputs=2, axis=axis)
    gated = b.op("Add", b.gemm(one, 7, 5), b.gemm(two, 11, 5))
    assert_prunes(b.proto(gated), 7, 11)


def test_split_with_sizes_as_an_attribute() -> None:
    b = Build(opset=12)
    one, two = b.op("Split", b.gemm(b.input("N", 7), 7, 18), outputs=2, axis=1, split=[7, 11])
    assert_prunes(b.proto(b.op("Add", b.gemm(one, 7, 5), b.gemm(two, 11, 5))), 7, 11)


def test_an_even_split_keeps_its_parts_even() -> None:
    b = Build()
    one, two, three = b.op("Split", b.gemm(b.input("N", 7), 7, 21), outputs=3, axis=1)
    joined = b.op("Add", b.gemm(one, 7, 5), b.op("Add", b.gemm(two, 7, 5), b.gemm(three, 7, 5)))
    assert_prunes(b.proto(joined), 7)


def test_split_of_a_concat_with_other_borders() -> None:
    b = Build()
    x = b.input("N", 7)
    joined = b.op("Concat", b.gemm(x, 7, 5), b.gemm(x, 7, 13), axis=1)
    one, two = b.op("Split", joined, b.ints(11, 7), outputs=2, axis=1)
    assert_prunes(b.proto(b.op("Add", b.gemm(one, 11, 3), b.gemm(two, 7, 3))), 5, 6, 7)


def test_a_fused_qkv_that_is_reshaped_and_taken_apart() -> None:
    """(N, 5, 3 * 7) as (N, 5, 3, 7), then three slices of the axis of three by Split: the 7 can go, the 3 cannot."""
    b = Build()
    fused = b.reshape(b.dense(b.input("N", 5, 7), 7, 21), 0, 0, 3, 7)
    parts = b.op("Split", fused, outputs=3, axis=2)
    joined = b.op("Add", parts[0], b.op("Mul", parts[1], b.op("Sigmoid", parts[2])))
    assert_prunes(b.proto(b.dense(b.op("Squeeze", joined, b.ints(2)), 7, 3)), 7)


def test_a_fused_qkv_as_sum_and_as_product() -> None:
    """Split in three on one path, reshaped to (3, 7) on another: the product's leading factor is distributed."""
    b = Build()
    fused = b.dense(b.input("N", 5, 7), 7, 21)
    one, two, three = b.op("Split", fused, b.ints(7, 7, 7), outputs=3, axis=2)
    mixed = b.op("Sub", one, b.op("Mul", two, three))
    stacked = b.op("Add", b.reshape(fused, 0, 5, 3, 7), b.op("Unsqueeze", mixed, b.ints(2)))
    assert_prunes(b.proto(b.op("MatMul", stacked, b.weight(7, 9))), 7)


@pytest.mark.parametrize("op", ["Squeeze", "Unsqueeze"])
def test_squeeze_and_unsqueeze(op: str) -> None:
    b = Build()
    hidden = b.op("Unsqueeze", b.gemm(b.input("N", 7), 7, 11), b.ints(1))
    if op == "Squeeze":
        assert_prunes(b.proto(b.gemm(b.op("Squeeze", hidden, b.ints(1)), 11, 5)), 11)
    else:
        assert_prunes(b.proto(b.dense(hidden, 11, 5)), 11)


def test_expand_of_a_stored_tensor() -> None:
    b = Build()
    row = b.op("Expand", b.weight(1, 11), b.ints(3, 11))
    assert_prunes(b.proto(b.gemm(b.op("Add", row, b.gemm(b.input(3, 7), 7, 11)), 11, 5)), 11)


def test_expand_to_a_computed_shape() -> None:
    def step(b: Build, x: str) -> str:
        return b.op("Mul", x, b.op("Expand", b.weight(1, 11), b.op("Shape", x)))

    assert_prunes(between_gemms(step), 11)


def test_expand_with_ones() -> None:
    def step(b: Build, x: str) -> str:
        return b.op("Expand", b.op("Unsqueeze", x, b.ints(1)), b.ints(5, 1))

    b = Build()
    wide = step(b, b.gemm(b.input("N", 7), 7, 11))
    assert_prunes(b.proto(b.dense(wide, 11, 3)), 11)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad_passes_axes_without_padding(mode: str) -> None:
    assert_prunes(between_convs(lambda b, x: b.op("Pad", x, b.ints(0, 0, 1, 2, 0, 0, 0, 1), mode=mode)), 11)


def test_padding_channels_with_a_constant_puts_others_beside_them() -> None:
    assert_prunes(between_gemms(lambda b, x: b.op("Pad", x, b.ints(0, 1, 0, 2)), after=14), 11)


def test_padding_channels_with_channels_freezes_them() -> None:
    step = between_gemms(lambda b, x: b.op("Pad", x, b.ints(0, 1, 0, 1), mode="edge", name="p"), after=13)
    assert_frozen(step, "Pad p pads it")


def test_reversed_sequences_pass_the_channels() -> None:
    def reversed_to_three(b: Build, x: str) -> str:
        count = b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1))
        return b.op("ReverseSequence", x, b.op("Expand", b.ints(3), count), batch_axis=0, time_axis=1)

    assert_prunes(between_matmuls(reversed_to_three), 11)


def test_a_slice_of_other_axes_passes_the_channels() -> None:
    step = between_matmuls(lambda b, x: b.op("Slice", x, b.ints(1), b.ints(4), b.ints(1)))
    assert_prunes(step, 11)


@pytest.mark.parametrize(("start", "end"), [(0, 7), (4, 11), (2, 9), (-7, -1), (1, 2**62)])
def test_a_slice_of_the_channels_takes_them_apart(start: int, end: int) -> None:
    """What is inside the window and what is outside become layers of their own; both are used here."""
    b = Build()
    hidden = b.gemm(b.input("N", 7), 7, 11)
    window = b.op("Slice", hidden, b.ints(start), b.ints(end), b.ints(1))
    inside = len(range(11)[start:end])
    case = Case.of(b.proto(b.op("Add", b.gemm(hidden, 11, 5), b.gemm(window, inside, 5))))
    assert sum(case.sizes) in (10, 11)  # a part of one unit is no layer
    assert inside in case.sizes
    assert_exact(case, cut_all(case))


def test_a_slice_that_takes_everything_passes() -> None:
    step = between_gemms(lambda b, x: b.op("Slice", x, b.ints(0), b.ints(2**62), b.ints(-1)))
    assert_prunes(step, 11)


def test_a_slice_that_reverses_freezes() -> None:
    step = between_gemms(lambda b, x: b.op("Slice", x, b.ints(-1), b.ints(-(2**62)), b.ints(1), b.ints(-1), name="s"))
    assert_frozen(step, "Slice s takes every other position of it, or reorders it")


def test_a_row_of_an_embedding_passes_its_other_axis() -> None:
    b = Build()
    ids = b.input("N", 5, dtype=np.int64)
    rows = b.op("Gather", b.weight(13, 11), ids, axis=0, name="embed")
    case = assert_prunes(b.proto(b.dense(rows, 11, 3)), 11)
    assert 13 not in case.sizes


def test_looking_channels_up_freezes_them() -> None:
    step = between_gemms(lambda b, x: b.op("Add", x, b.op("Gather", x, b.ints(3), axis=1, name="pick")))
    assert_frozen(step, "Gather pick looks positions up in it")


def test_which_channels_are_looked_up_can_be_cut() -> None:
    """The list of positions is a stored vector like any other."""
    assert_prunes(between_gemms(lambda b, x: b.op("Gather", x, b.ints(0, 5, 2), axis=1), after=3), 3)


def test_resize_passes_the_channels_by_scales_and_by_sizes() -> None:
    scales = between_convs(lambda b, x: b.op("Resize", x, "", b.const(np.array([1, 1, 2, 2], dtype=np.float32))))
    assert_prunes(scales, 11)
    b = Build()
    hidden = b.conv(b.input(3, 3, 5, 7), 3, 11)
    assert_prunes(b.proto(b.conv(b.op("Resize", hidden, "", "", b.ints(3, 11, 9, 13)), 11, 7)), 11)


def test_shape_feeding_a_reshape_of_something_else() -> None:
    """y.reshape(x.shape), where both lose channels."""

    def step(b: Build, x: str) -> str:
        return b.op("Reshape", b.op("Flatten", x), b.op("Shape", x))

    assert_prunes(between_matmuls(step), 11)


def test_size_freezes_what_it_counts() -> None:
    def step(b: Build, x: str) -> str:
        return b.op("Div", x, b.op("Cast", b.op("Size", x, name="count"), to=1))

    assert "Size count counts its elements" in assert_frozen(between_gemms(step)).reasons


@pytest.mark.parametrize("seed", range(5))
def test_attention_under_random_plans(seed: int) -> None:
    import random

    b = Build(seed)
    x, heads, size = b.input("N", 5, 7), 3, 7
    parts = [b.reshape(b.dense(x, 7, heads * size), 0, -1, heads, size) for _ in range(3)]
    q, v = (b.op("Transpose", part, perm=[0, 2, 1, 3]) for part in parts[::2])
    scores = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", parts[1], perm=[0, 2, 3, 1])))
    mixed = b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    case = Case.of(b.proto(b.dense(b.reshape(mixed, 0, -1, heads * size), heads * size, 5)))
    assert len(case.graph.layers) == 3
    assert_exact(case, random_plan(case.graph, random.Random(seed)))
