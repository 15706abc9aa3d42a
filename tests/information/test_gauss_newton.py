"""The matrix of how much the outputs mind errors: its factor, its sums, and what it does to the joint score."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.information import Sensitivity, View, joint
from tests.support.information import gaussian

RNG = np.random.default_rng(5)
GRADIENTS = RNG.normal(size=(2, 13, 5))  # (groups, rows, M)


def squares(rows: np.ndarray) -> np.ndarray:
    return rows.swapaxes(1, 2) @ rows


def test_an_error_costs_its_length_behind_the_factor() -> None:
    kept = np.array([0, 2, 3])
    root = Sensitivity(7, squares(GRADIENTS)).root(1, kept)
    error = RNG.normal(size=3)
    expected = np.square(GRADIENTS[1][:, kept] @ error).sum() / 7
    assert np.square(error @ root).sum() == pytest.approx(expected)


def test_directions_that_the_outputs_do_not_mind_are_left_out() -> None:
    rows = RNG.normal(size=(1, 13, 2)) @ RNG.normal(size=(2, 5))
    assert Sensitivity(1, squares(rows)).root(0, np.arange(5)).shape == (5, 2)
    assert Sensitivity(1, np.zeros((1, 5, 5))).root(0, np.arange(5)).shape == (5, 0)


def test_sums_over_two_sets_of_samples_are_those_over_both() -> None:
    one, two = (Sensitivity(count, squares(GRADIENTS[:, part])) for count, part in ((3, slice(4)), (8, slice(4, 13))))
    merged = one.merge(two)
    assert merged.count == 11
    np.testing.assert_allclose(merged.total, squares(GRADIENTS))
    with pytest.raises(ValueError, match="do not fit"):
        one.merge(Sensitivity(1, np.zeros((1, 5, 5))))


def test_noise_that_the_outputs_feel_alike_in_all_directions() -> None:
    """I(X_S; Y L + N) with N alike in all directions is I(X_S; Y + M) with the inverse of L L' as covariance of M."""
    spread = RNG.normal(size=(7, 9))
    covariance, weights = spread @ spread.T, RNG.normal(size=(7, 5))
    root = Sensitivity(1, squares(GRADIENTS)).root(0, np.arange(5))
    kept = joint([View(covariance, weights @ root, np.arange(7))], 7, 3, noise=1.0)

    felt = weights @ root
    level = np.diagonal(felt.T @ covariance @ felt).mean()
    outputs = weights.T @ covariance @ weights + level * np.linalg.inv(root @ root.T)
    whole = np.block([[covariance, covariance @ weights], [weights.T @ covariance, outputs]])
    assert kept.curve[-1] == pytest.approx(gaussian(whole, kept.kept, np.arange(7, 12)))
