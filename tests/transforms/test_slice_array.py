import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.axes.terms import Dim, Product, Sum
from onnxmi.transforms.prune_channels import slice_array
from onnxmi.verification.checks import axes_mask

GROUP, INNER, OUT, KERNEL, OTHER = Dim(1, 3), Dim(2, 5), Dim(3, 7), Dim(4, 2), Dim(5, 11)


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int)).reshape(shape)


def test_nothing_cut() -> None:
    array = numbered(3, 7)
    assert_array_equal(slice_array(array, (GROUP, OUT), Keeping()), array)


def test_plain_axes() -> None:
    keeping = Keeping({GROUP.id: Kept(np.array([0, 2])), OUT.id: Kept(np.array([1, 3, 6]))})
    array = numbered(3, 7)
    assert_array_equal(slice_array(array, (GROUP, OUT), keeping), array[[0, 2]][:, [1, 3, 6]])


def test_one_atom_on_two_axes() -> None:
    array = numbered(5, 5)
    kept = [0, 3, 4]
    assert_array_equal(
        slice_array(array, (INNER, INNER), Keeping({INNER.id: Kept(np.array(kept))})), array[kept][:, kept]
    )


def test_a_sum_and_a_product() -> None:
    keeping = Keeping({INNER.id: Kept(np.array([1, 4])), OUT.id: Kept(np.array([0, 6]))})
    array = numbered(5 + 7, 3 * 5)
    result = slice_array(array, (Sum((INNER, OUT)), Product((GROUP, INNER))), keeping)
    assert_array_equal(result, array[[1, 4, 5, 11]][:, [1, 4, 6, 9, 11, 14]])


def test_a_scalar() -> None:
    assert slice_array(np.float32(3.0), (), Keeping({OUT.id: Kept(np.array([0]))})) == 3.0


def test_the_result_is_contiguous_and_of_the_same_type() -> None:
    array = numbered(7, 5).astype(np.float16).T
    result = slice_array(array, (INNER, OUT), Keeping({OUT.id: Kept(np.array([2, 3]))}))
    assert result.flags.c_contiguous
    assert result.dtype == np.float16


def test_a_ragged_vector() -> None:
    """A bias of a grouped convolution."""
    kept = np.array([[0, 2], [1, 4], [3, 4]])
    result = slice_array(numbered(15), (Product((GROUP, INNER)),), Keeping({INNER.id: Kept(kept, GROUP.id)}))
    assert result.tolist() == [0, 2, 5 + 1, 5 + 4, 10 + 3, 10 + 4]


def _blocks(weight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """A grouped convolution's weight, cut group by group: the definition."""
    outs = weight.shape[0] // len(kept)
    return np.concatenate([weight[g * outs : (g + 1) * outs][:, units] for g, units in enumerate(kept)])


kept_sets = st.integers(1, 5).flatmap(
    lambda count: st.lists(st.permutations(range(5)).map(lambda p: sorted(p[:count])), min_size=3, max_size=3)
)


@given(kept_sets)
def test_ragged_over_another_axis(sets: list[list[int]]) -> None:
    """Channels per group on axis 1, the groups on axis 0."""
    weight, kept = numbered(21, 5, 2), np.array(sets)
    axes = (Product((GROUP, OUT)), INNER, KERNEL)
    assert_array_equal(slice_array(weight, axes, Keeping({INNER.id: Kept(kept, GROUP.id)})), _blocks(weight, kept))


@given(kept_sets)
def test_ragged_over_an_axis_to_the_right(sets: list[list[int]]) -> None:
    weight, kept = numbered(21, 5, 2), np.array(sets)
    turned = np.moveaxis(weight, 0, 2)
    axes = (INNER, KERNEL, Product((GROUP, OUT)))
    result = slice_array(turned, axes, Keeping({INNER.id: Kept(kept, GROUP.id)}))
    assert_array_equal(result, np.moveaxis(_blocks(weight, kept), 0, 2))


@given(kept_sets, st.sets(st.integers(0, 6), min_size=1), st.sets(st.integers(0, 2), min_size=1))
def test_ragged_while_the_outer_axis_is_cut_too(sets: list[list[int]], outs: set[int], groups: set[int]) -> None:
    weight, kept = numbered(21, 5), np.array(sets)
    keeping = Keeping(
        {
            INNER.id: Kept(kept, GROUP.id),
            OUT.id: Kept(np.array(sorted(outs))),
            GROUP.id: Kept(np.array(sorted(groups))),
        }
    )
    wanted = [[weight[g * 7 + o, c] for c in sets[g]] for g in sorted(groups) for o in sorted(outs)]
    assert_array_equal(slice_array(weight, (Product((GROUP, OUT)), INNER), keeping), np.array(wanted))


@given(kept_sets, kept_sets)
def test_two_ragged_atoms_over_one_outer_atom(inputs: list[list[int]], outputs: list[list[int]]) -> None:
    """A grouped convolution between two cut layers: both its channels are ragged over the groups."""
    inner, outer = Dim(2, 5), Dim(6, 5)
    weight = numbered(15, 5)
    keeping = Keeping({inner.id: Kept(np.array(inputs), GROUP.id), outer.id: Kept(np.array(outputs), GROUP.id)})
    wanted = [[weight[g * 5 + o, c] for c in inputs[g]] for g in range(3) for o in outputs[g]]
    assert_array_equal(slice_array(weight, (Product((GROUP, outer)), inner), keeping), np.array(wanted))


pairs_of_sets = st.lists(st.sets(st.integers(0, 6), min_size=3, max_size=3), min_size=2, max_size=2)


@given(kept_sets, pairs_of_sets, st.permutations(range(3)))
def test_two_ragged_atoms_over_two_axes(inner: list[list[int]], outer: list[set[int]], order: list[int]) -> None:
    """Space moved into channels, as DepthToSpace does it: each part of a channel has rows of its own."""
    others = [sorted(one) for one in outer]
    keeping = Keeping({INNER.id: Kept(np.array(inner), GROUP.id), OUT.id: Kept(np.array(others), KERNEL.id)})
    axes, array = (GROUP, Product((INNER, OUT)), KERNEL), numbered(3, 35, 2)
    expected = np.array(
        [
            [
                [array[g, i * 7 + o, k] for k, o in enumerate(pair)]
                for i in inner[g]
                for pair in zip(*others, strict=True)
            ]
            for g in range(3)
        ]
    )
    made = slice_array(array.transpose(order), tuple(axes[i] for i in order), keeping)
    assert_array_equal(made, expected.transpose(order))
    mask = axes_mask(tuple(axes[i] for i in order), keeping)
    assert sorted(array.transpose(order)[mask].tolist()) == sorted(made.reshape(-1).tolist())


@given(kept_sets, st.booleans())
def test_the_mask_of_the_oracle_and_the_slice_agree(sets: list[list[int]], turned: bool) -> None:
    """They are written independently: the kept entries in order are the slice."""
    axes = (Product((GROUP, OUT)), INNER, OTHER)
    array = numbered(21, 5, 11)
    if turned:
        axes, array = axes[::-1], array.transpose(2, 1, 0)
    keeping = Keeping({INNER.id: Kept(np.array(sets), GROUP.id), OTHER.id: Kept(np.array([0, 5]))})
    mask = np.broadcast_to(axes_mask(axes, keeping), array.shape)
    assert sorted(array[mask].tolist()) == sorted(slice_array(array, axes, keeping).reshape(-1).tolist())
