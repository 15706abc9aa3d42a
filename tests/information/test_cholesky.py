import numpy as np
import pytest

from onnxmi.information.cholesky import Sweep, backward, factor, forward, live, log_determinants


@pytest.mark.parametrize("size", [0, 1, 64, 65, 151])
def test_triangular_solves(size):
    rng = np.random.default_rng(size)
    lower = np.tril(rng.normal(size=(size, size)) / np.sqrt(size + 1)) + 2 * np.eye(size)
    right = rng.normal(size=(size, 3))
    np.testing.assert_allclose(lower @ forward(lower, right), right, atol=1e-10)
    np.testing.assert_allclose(lower.T @ backward(lower, right), right, atol=1e-10)


def test_the_jitter_rises_until_a_factor_exists():
    matrix = np.eye(3) - np.full((3, 3), 1 / 3) - 2e-7 * np.full((3, 3), 1 / 3)
    lower, jitter = factor(matrix, 1e-9)
    assert 1e-7 < jitter < 1e-5
    np.testing.assert_allclose(lower @ lower.T, matrix + jitter * np.eye(3))
    with pytest.raises(ValueError, match="not a covariance"):
        factor(-np.eye(3), 1e-9)


def test_live_is_relative():
    assert live(np.array([1e-30, 1e-31, 1e-55, 0.0])).tolist() == [True, True, False, False]
    assert not live(np.zeros(2)).any()


def test_blocks_that_rounding_made_indefinite_are_survived():
    blocks = np.stack([np.diag([4.0, 2.0]), np.array([[1.0, 1.0 + 1e-15], [1.0 + 1e-15, 1.0]])])
    np.testing.assert_allclose(log_determinants(blocks, 1e-12), np.log([8.0, 2e-12]))
    sweep = Sweep(np.kron(np.eye(2), blocks[1]) * 1e-9, 2, 1e-12)
    sweep.condition(0)
    assert np.isfinite(sweep.blocks).all()
