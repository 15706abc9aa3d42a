"""Slice, Pad, Tile and Split: an axis is what lies before, in and after a window."""

import numpy as np
import pytest

from tests.support.build import Build, between_gemms, between_matmuls
from tests.support.oracle import Case, assert_exact, assert_frozen, assert_prunes, cut_all

END = 2**63 - 1


def halves(b: Build, x: str, size: int, where: int, axis: int = -1) -> tuple[str, str]:
    left = b.op("Slice", x, b.ints(0), b.ints(where), b.ints(axis))
    return left, b.op("Slice", x, b.ints(where), b.ints(END), b.ints(axis))


def test_two_windows_are_two_layers() -> None:
    def gate(b: Build, x: str) -> str:
        left, right = halves(b, x, 11, 4)
        return b.op("Concat", b.op("Relu", left), b.op("Tanh", right), axis=-1)

    assert_prunes(between_matmuls(gate), 4, 7)


def test_a_gated_unit_couples_both_halves() -> None:
    def glu(b: Build, x: str) -> str:
        left, right = halves(b, x, 22, 11)
        return b.op("Mul", left, b.op("Sigmoid", right))

    assert_prunes(between_matmuls(glu, width=22, after=11), 11)


def test_positions_counted_from_the_end() -> None:
    def step(b: Build, x: str) -> str:
        return b.op("Slice", x, b.ints(-7), b.ints(-2), b.ints(-1))

    case = Case.of(between_gemms(step, after=5))
    assert 5 in case.sizes
    assert_exact(case, cut_all(case))


def test_a_window_in_attributes_is_restated() -> None:
    """Before opset 10."""
    b = Build(opset=9)
    x = b.gemm(b.input("N", 7), 7, 11)
    left = b.op("Slice", x, starts=[0], ends=[4], axes=[1])
    right = b.op("Slice", x, starts=[4], ends=[END], axes=[1])
    assert_prunes(b.proto(b.gemm(b.op("Concat", right, left, axis=1), 11, 3)), 4, 7)


def test_bounds_computed_from_a_shape() -> None:
    """As torch's chunk is exported: half of the axis' size."""

    def step(b: Build, x: str) -> str:
        size = b.op("Gather", b.op("Shape", x), b.ints(1), axis=0)
        middle = b.op("Div", size, b.ints(2))
        left = b.op("Slice", x, b.ints(0), middle, b.ints(1))
        right = b.op("Slice", x, middle, size, b.ints(1))
        return b.op("Mul", left, right)

    assert_prunes(between_gemms(step, width=22, after=11), 11)


def test_the_two_halves_that_a_rotation_swaps_stay_symmetric() -> None:
    def rotate(b: Build, x: str) -> str:
        left, right = halves(b, x, 22, 11)
        return b.op("Add", x, b.op("Concat", b.op("Neg", right), left, axis=-1))

    case = assert_prunes(between_matmuls(rotate, width=22), 11)
    assert case.graph.layers[0].size == 11


@pytest.mark.parametrize("step", [2, -1])
def test_other_steps_freeze(step: int) -> None:
    start, end = (0, END) if step > 0 else (-1, -END)

    def skip(b: Build, x: str) -> str:
        return b.op("Slice", x, b.ints(start), b.ints(end), b.ints(1), b.ints(step))

    assert_frozen(between_gemms(skip, after=6 if step == 2 else 11), "takes every other position of it, or reorders it")


def test_bounds_that_depend_on_the_data_freeze() -> None:
    b = Build()
    x = b.gemm(b.input("N", 7), 7, 11)
    end = b.input(1, name="end", dtype=np.int64)
    case = Case.of(b.proto(b.op("ReduceSum", b.op("Slice", x, b.ints(0), end, b.ints(1)), b.ints(1))))
    assert case.sizes == []


def test_channels_padded_with_zeros() -> None:
    def pad(b: Build, x: str) -> str:
        return b.op("Pad", x, b.ints(0, 2, 0, 4))

    assert_prunes(between_gemms(pad, after=17), 11)


def test_channels_padded_with_a_reflection_freeze() -> None:
    def pad(b: Build, x: str) -> str:
        return b.op("Pad", x, b.ints(0, 2, 0, 4), mode="reflect")

    assert_frozen(between_gemms(pad, after=17), "pads it")


def test_tiled_channels_are_a_product() -> None:
    def tile(b: Build, x: str) -> str:
        return b.op("Tile", x, b.ints(1, 3))

    assert_prunes(between_gemms(tile, after=33), 11)
