"""What is worked out of a covariance once is remembered, and nothing of another one is."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.information import gaussian_channel
from onnxmi.information.gaussian_channel import Channel
from onnxmi.information.view import View

UNITS = 7


def view(covariance: np.ndarray) -> View:
    weights = np.random.default_rng(3).normal(size=(UNITS, 5))
    return View(covariance, weights, np.arange(UNITS))


def test_the_ridge_of_a_covariance_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    factor = gaussian_channel.factor

    def counted(matrix: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
        looked.append(len(matrix))
        return factor(matrix, ridge)

    monkeypatch.setattr(gaussian_channel, "factor", counted)
    rows = np.random.default_rng(20261127).normal(size=(31, UNITS))
    covariance, every = np.cov(rows.T), np.ones(UNITS, dtype=bool)
    first = Channel(view(covariance), UNITS, 0.1).gains(every)
    again = Channel(view(covariance.copy()), UNITS, 0.1).gains(every)
    assert looked == [UNITS]
    np.testing.assert_array_equal(first, again)
    other = covariance + 0.1 * np.eye(UNITS)
    assert not np.array_equal(Channel(view(other), UNITS, 0.1).gains(every), first)
    assert looked == [UNITS, UNITS]
