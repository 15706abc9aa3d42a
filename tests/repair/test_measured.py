"""The rows that wait at an operator before an activation."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.repair import behind_activation, measured


def test_no_more_rows_are_held_than_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind_activation, "ROWS", 31)
    rows = np.arange(2 * 997 * 5, dtype=np.float32).reshape(2, 997, 5)
    held = measured._Rows()
    for part in np.split(rows, [1, 17, 18, 300, 611], axis=1):
        held.add(part, part[..., :3], np.zeros((2, 1, 3), np.float32))
        assert sum(one.shape[1] for one in held._batches[0]) <= measured.HELD * 31
    joined = held.joined
    assert joined is not None
    inputs, targets, level = joined
    # Spread over all, whatever the batches were, and over each period in which rows may follow each other.
    numbers = inputs[0, :, 0].astype(int) // 5
    assert 31 / 4 < len(numbers) <= measured.HELD * 31
    assert np.diff(numbers).max() < 3 * 997 / len(numbers)
    for period in (2, 4, 8):
        assert set(numbers % period) == set(range(period))
    np.testing.assert_array_equal(inputs, rows[:, numbers])
    np.testing.assert_array_equal(targets, rows[:, numbers, :3])
    assert level.shape == targets.shape
