"""Which rows of an answer count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxmi.evaluation.counting import counted_rows, row_shares, with_sample_axes
from onnxmi.outputs.view import View

TOKENS = View("y", "y", "y", "sequence", "identity", (2,), 0)
MASK = np.array([[1, 1, 0], [1, 0, 0]])


def test_padding_is_left_out() -> None:
    assert counted_rows(TOKENS, (2, 3, 5), 2, [MASK]).tolist() == [True, True, False, True, False, False]


def test_time_may_come_first() -> None:
    turned = replace(TOKENS, sample_axis=1)
    assert counted_rows(turned, (3, 2, 5), 2, [MASK]).tolist() == [True, True, True, False, False, False]


def test_batches_that_were_cut_to_their_longest_sample_have_shorter_masks() -> None:
    assert counted_rows(TOKENS, (2, 2, 5), 2, [MASK]).tolist() == [True, True, True, False]


def test_a_mask_of_other_positions_says_nothing() -> None:
    assert counted_rows(TOKENS, (2, 1, 5), 2, [np.ones((2, 3))]) is None


def test_samples_that_fill_a_batch_do_not_count() -> None:
    assert counted_rows(TOKENS, (3, 2, 5), 2, []).tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("view", [TOKENS, replace(TOKENS, axes=())])
def test_shares_of_a_sample_add_up_to_one(view: View) -> None:
    shares = row_shares(view, (2, 3, 5), 2, [MASK]).reshape(2, -1)
    np.testing.assert_allclose(shares.sum(1), 1)
    columns = 5 if not view.axes else 1
    np.testing.assert_allclose(shares[0], np.repeat([0.5, 0.5, 0], columns) / columns)


@pytest.mark.parametrize("axes", [(), (1,), (2,)])
def test_an_axis_of_samples_that_a_squeeze_dropped_is_put_back(axes: tuple[int, ...]) -> None:
    view = View("y", "y", "y", "values", "identity", axes, 0)
    whole = np.zeros((1, 3, 5)[: max(axes, default=0) + 1])
    for given in (whole, whole[0]):
        assert with_sample_axes([view], {"y": given}, 1)["y"].shape == whole.shape
    assert with_sample_axes([view], {"y": whole}, 3)["y"] is whole


def test_a_batch_of_fixed_size_keeps_its_axes() -> None:
    view, whole = View("y", "y", "y", "values", "identity", (1,), 0), np.zeros((4, 5))
    assert with_sample_axes([view], {"y": whole}, 4)["y"] is whole
