import pytest

from tests.support.build import Build, between_convs, between_matmuls
from tests.support.oracle import Case, assert_exact, assert_frozen, assert_prunes, cut_all

REDUCERS = ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSumSquare"]


@pytest.mark.parametrize("op", REDUCERS)
def test_reducing_space_passes_the_channels(op: str) -> None:
    assert_prunes(between_convs(lambda b, x: b.op(op, x, axes=[2, -1], keepdims=1)), 11)


@pytest.mark.parametrize("op", ["ReduceLogSumExp", "ReduceMax", "ReduceMin"])
def test_reducing_the_channels_freezes_them(op: str) -> None:
    """A cut channel that is zero may be the largest."""

    def step(b: Build, x: str) -> str:
        return b.op("Sub", x, b.op(op, x, axes=[-1], keepdims=1, name="r"))

    assert_frozen(between_matmuls(step), f"{op} r reduces over it")


def test_a_mean_over_the_channels_is_never_exact() -> None:
    """A channel that is zero still counts in it: at best this is a normalisation written out."""
    step = between_matmuls(lambda b, x: b.op("Sub", x, b.op("ReduceMean", x, axes=[-1], keepdims=1)))
    assert all(layer.grade == "renormalising" for layer in Case.of(step).graph.layers)


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare"])
def test_a_norm_of_the_channels_contracts_them(op: str) -> None:
    """Zeros add nothing to it."""
    assert_prunes(between_matmuls(lambda b, x: b.op(op, x, axes=[-1], keepdims=1), after=1), 11)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_summing_the_channels_is_a_contraction(keepdims: int) -> None:
    b = Build()
    hidden = b.dense(b.input("N", 5, 7), 7, 11)
    summed = b.op("ReduceSum", hidden, b.ints(-1), keepdims=keepdims)
    case = assert_prunes(b.proto(summed), 11)
    assert case.graph.layers[0].users == (2,)


def test_reducing_without_keeping_dims() -> None:
    b = Build()
    hidden = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, 11))
    assert_prunes(b.proto(b.gemm(b.op("ReduceMean", hidden, axes=[2, 3], keepdims=0), 11, 5)), 11)


def test_reducing_everything_freezes_everything() -> None:
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 11)
    scale = b.op("ReduceMax", hidden, keepdims=0, name="r")
    assert_frozen(b.proto(b.conv(b.op("Div", hidden, scale), 11, 7)), "ReduceMax r reduces over it")


def test_no_axes_may_mean_no_reduction() -> None:
    step = between_matmuls(lambda b, x: b.op("ReduceSum", x, b.ints(), noop_with_empty_axes=1))
    assert_prunes(step, 11)


def test_arg_max_freezes_the_axis_it_compares_along() -> None:
    def step(b: Build, x: str) -> str:
        best = b.op("Cast", b.op("ArgMax", x, axis=-1, keepdims=1, name="top"), to=1)
        return b.op("Add", x, best)

    assert_frozen(between_matmuls(step), "ArgMax top compares along it")


def test_arg_max_passes_other_axes() -> None:
    def step(b: Build, x: str) -> str:
        best = b.op("Cast", b.op("ArgMax", x, axis=1, keepdims=0), to=1)
        return b.op("Mul", x, b.op("Unsqueeze", best, b.ints(1)))

    assert_prunes(between_matmuls(step), 11)


def test_a_running_sum_freezes_the_axis_it_runs_over() -> None:
    assert_frozen(between_matmuls(lambda b, x: b.op("CumSum", x, b.ints(2), name="cs")), "CumSum cs runs over it")
    case = Case.of(between_matmuls(lambda b, x: b.op("CumSum", x, b.ints(1))))
    assert case.sizes == [11]
    assert_exact(case, cut_all(case))
