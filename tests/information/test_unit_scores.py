import numpy as np
import pytest

from onnxmi.information import pairwise, top, variance, wanda

WEIGHTS = np.array([[1.0, -2.0], [3.0, 0.0], [0.0, 4.0], [100.0, 100.0]])
UNITS = np.array([1, 0, 1, -1])


def test_scores_by_hand():
    np.testing.assert_allclose(wanda(np.array([4.0, 1.0, 9.0, 1.0]), WEIGHTS, UNITS, 3), [3.0, 3 * 2 + 4 * 3, 0.0])
    np.testing.assert_allclose(variance(np.array([4.0, 1.0, 9.0, 1.0]), WEIGHTS, UNITS, 3), [9.0, 20 + 9 * 16, 0.0])
    np.testing.assert_allclose(pairwise(np.abs(WEIGHTS), UNITS, 3), [3.0, 7.0, 0.0])


def test_top_is_stable_and_sorted():
    selection = top(np.array([1.0, 3.0, 2.0, 3.0, 0.0]), 3)
    assert selection.order.tolist() == [1, 3, 2]
    assert selection.kept.tolist() == [1, 2, 3]
    assert selection.gains.tolist() == [3.0, 3.0, 2.0]
    scores = np.random.default_rng(0).integers(0, 3, size=1009).astype(float)
    assert top(scores, 1009).order.tolist() == sorted(range(1009), key=lambda unit: -scores[unit])
    assert top(np.zeros(5), 0).kept.size == 0


def test_top_respects_parts():
    scores = np.array([9.0, 8.0, 7.0, 1.0, 2.0, 0.0])
    assert top(scores, 4, parts=np.array([0, 0, 0, 1, 1, 1]), quota=2).kept.tolist() == [0, 1, 3, 4]


def test_misuse():
    with pytest.raises(ValueError, match="not a number"):
        top(np.array([1.0, np.nan]), 1)
    with pytest.raises(ValueError, match="cannot keep"):
        top(np.ones(2), 3)
