import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmi.information import discrete, pairwise_gaussian
from tests.support.information import gaussian

seeds = st.integers(0, 2**32 - 1)


def covariance_of(seed: int, size: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(size, size + 2))
    return root @ root.T


def by_determinants(covariance: np.ndarray, a: list[int], b: list[int]) -> float:
    volumes = [np.linalg.slogdet(covariance[np.ix_(i, i)])[1] for i in (a, b, a + b)]
    return 0.5 * (volumes[0] + volumes[1] - volumes[2])


@pytest.mark.parametrize("rho", [-0.9999, -0.3, 0.0, 0.5, 0.99])
def test_the_reference_has_the_bivariate_closed_form(rho):
    covariance = np.array([[4.0, 2 * 3 * rho], [2 * 3 * rho, 9.0]])
    assert gaussian(covariance, [0], [1]) == pytest.approx(-0.5 * np.log(1 - rho**2), rel=1e-6, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_reference_has_the_multivariate_closed_form_symmetry_and_sign(seed):
    covariance = covariance_of(seed, 7)
    a, b = [0, 3, 5], [1, 6]
    assert gaussian(covariance, a, b) == pytest.approx(by_determinants(covariance, a, b), rel=1e-6)
    assert gaussian(covariance, a, b) == pytest.approx(gaussian(covariance, b, a), rel=1e-9)
    assert gaussian(covariance, a, b) >= 0.0


def test_the_reference_adds_noise_to_b_only():
    covariance = covariance_of(1, 5)
    noisy = covariance.copy()
    noisy[[3, 4], [3, 4]] += 2.5
    assert gaussian(covariance, [0, 1], [3, 4], noise=2.5) == pytest.approx(by_determinants(noisy, [0, 1], [3, 4]))
    # A feature seen through noise: 1/2 log(1 + signal / noise).
    assert gaussian(covariance, [2], [2], noise=2.5) == pytest.approx(0.5 * np.log1p(covariance[2, 2] / 2.5))


def test_the_reference_stays_finite_of_degenerate_covariances():
    covariance = covariance_of(2, 5)
    duplicated = np.array([0, 1, 2, 0, 4, 4])
    joint = covariance[np.ix_(duplicated, duplicated)]
    assert gaussian(joint, [0, 1, 3], [2, 4, 5]) == pytest.approx(by_determinants(joint, [0, 1], [2, 4]), rel=1e-6)
    assert gaussian(covariance, [0], [0]) == pytest.approx(-0.5 * np.log(1e-12), rel=0.1)
    covariance[3] = covariance[:, 3] = 0.0
    assert gaussian(covariance, [3], [0]) == 0.0
    assert gaussian(covariance, [1, 3], [0]) == gaussian(covariance, [1], [0])
    assert gaussian(covariance, [], [0]) == 0.0


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_pairwise_is_gaussian_of_each_pair(scale):
    covariance = covariance_of(3, 7) * scale**2
    covariance[2] = covariance[:, 2] = 0.0
    matrix = pairwise_gaussian(covariance[:4, :4], covariance[:4, 4:], np.diagonal(covariance)[4:])
    expected = [[gaussian(covariance, [k], [m]) for m in range(4, 7)] for k in range(4)]
    np.testing.assert_allclose(matrix, expected, rtol=1e-6, atol=1e-12)
    assert not matrix[2].any()
    diagonal = pairwise_gaussian(np.diagonal(covariance)[:4], covariance[:4, 4:], np.diagonal(covariance)[4:])
    np.testing.assert_array_equal(matrix, diagonal)


def test_pairwise_clips_what_is_determined():
    assert pairwise_gaussian(np.array([4.0]), np.array([[6.0]]), np.array([9.0]))[0, 0] == pytest.approx(13.8, abs=0.1)
    with pytest.raises(ValueError, match="expected"):
        pairwise_gaussian(np.ones(2), np.ones((3, 2)), np.ones(2))


def test_discrete_closed_forms():
    assert discrete(np.diag([3, 3, 3])) == pytest.approx(np.log(3))
    assert discrete(np.outer([1, 2, 3], [5, 7])) == pytest.approx(0.0, abs=1e-12)
    flip = 0.11
    channel = np.array([[1 - flip, flip], [flip, 1 - flip]])
    capacity = np.log(2) + flip * np.log(flip) + (1 - flip) * np.log(1 - flip)
    assert discrete(channel) == pytest.approx(capacity)
    assert discrete(np.zeros((2, 3))) == 0.0
    np.testing.assert_allclose(discrete(np.stack([channel, channel.T])), [capacity, capacity])


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_discrete_symmetry_bounds_and_merging_of_cells(seed):
    table = np.random.default_rng(seed).integers(0, 9, size=(5, 3))
    value = discrete(table)
    assert value == pytest.approx(discrete(table.T), abs=1e-12)
    assert 0.0 <= value <= np.log(3) + 1e-12
    assert discrete(np.add.reduceat(table, [0, 2, 4], axis=0)) <= value + 1e-12
    assert discrete(table[::-1]) == pytest.approx(value, abs=1e-12)


def test_miller_madow_removes_most_of_the_bias():
    rng = np.random.default_rng(5)
    share = np.outer([0.2, 0.3, 0.5], np.ones(5) / 5) * (1 + 0.5 * rng.uniform(-1, 1, size=(3, 5)))
    share /= share.sum()
    tables = rng.multinomial(211, share.reshape(-1), size=2003).reshape(-1, 3, 5)
    truth = discrete(share)
    plain, corrected = discrete(tables).mean() - truth, discrete(tables, correct=True).mean() - truth
    assert plain == pytest.approx(2 * 4 / (2 * 211), rel=0.2)
    assert abs(corrected) < 0.2 * plain
    assert discrete(np.outer([1, 1], [1, 1]), correct=True) == 0.0


def test_discrete_misuse():
    with pytest.raises(ValueError, match="two axes"):
        discrete(np.ones(3))
    with pytest.raises(ValueError, match="below 0"):
        discrete(-np.ones((2, 2)))
