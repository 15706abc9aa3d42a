import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmi.information import (
    Moments,
    discrete,
    gaussian,
    gaussian_mixture_labels,
    label_weights,
    linear_targets,
    pairwise_gaussian,
)

seeds = st.integers(0, 2**32 - 1)


def covariance_of(seed: int, size: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(size, size + 2))
    return root @ root.T


def by_determinants(covariance: np.ndarray, a: list[int], b: list[int]) -> float:
    volumes = [np.linalg.slogdet(covariance[np.ix_(i, i)])[1] for i in (a, b, a + b)]
    return 0.5 * (volumes[0] + volumes[1] - volumes[2])


@pytest.mark.parametrize("rho", [-0.9999, -0.3, 0.0, 0.5, 0.99])
def test_bivariate_closed_form(rho):
    covariance = np.array([[4.0, 2 * 3 * rho], [2 * 3 * rho, 9.0]])
    assert gaussian(covariance, [0], [1]) == pytest.approx(-0.5 * np.log(1 - rho**2), rel=1e-6, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_multivariate_closed_form_symmetry_and_sign(seed):
    covariance = covariance_of(seed, 7)
    a, b = [0, 3, 5], [1, 6]
    assert gaussian(covariance, a, b) == pytest.approx(by_determinants(covariance, a, b), rel=1e-6)
    assert gaussian(covariance, a, b) == pytest.approx(gaussian(covariance, b, a), rel=1e-9)
    assert gaussian(covariance, a, b) >= 0.0


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_affine_maps_and_permutations_change_nothing(seed):
    rng = np.random.default_rng(seed)
    covariance = covariance_of(seed, 7)
    mix = np.zeros((7, 7))
    mix[:4, :4] = np.linalg.qr(rng.normal(size=(4, 4)))[0] * rng.uniform(0.2, 5, size=4)
    mix[4:, 4:] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * 10.0 ** rng.integers(-8, 8)
    expected = gaussian(covariance, range(4), range(4, 7))
    assert gaussian(mix @ covariance @ mix.T, range(4), range(4, 7)) == pytest.approx(expected, rel=1e-6)
    assert gaussian(covariance, [2, 0, 3, 1], [6, 4, 5]) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_processing_never_adds_information(seed):
    rng = np.random.default_rng(seed)
    covariance = covariance_of(seed, 7)
    squeeze = np.eye(7)[:6]
    squeeze[:3, :4] = rng.normal(size=(3, 4))
    squeeze[3:6, 4:7] = np.eye(3)
    squeeze[3:6, :4] = 0
    processed = squeeze @ covariance @ squeeze.T
    assert gaussian(processed, range(3), range(3, 6)) <= gaussian(covariance, range(4), range(4, 7)) + 1e-9


def test_noise_is_added_to_b_only():
    covariance = covariance_of(1, 5)
    noisy = covariance.copy()
    noisy[[3, 4], [3, 4]] += 2.5
    assert gaussian(covariance, [0, 1], [3, 4], noise=2.5) == pytest.approx(by_determinants(noisy, [0, 1], [3, 4]))
    # A feature seen through noise: 1/2 log(1 + signal / noise).
    assert gaussian(covariance, [2], [2], noise=2.5) == pytest.approx(0.5 * np.log1p(covariance[2, 2] / 2.5))


def test_degenerate_covariances_stay_finite():
    covariance = covariance_of(2, 5)
    duplicated = np.array([0, 1, 2, 0, 4, 4])
    joint = covariance[np.ix_(duplicated, duplicated)]
    assert gaussian(joint, [0, 1, 3], [2, 4, 5]) == pytest.approx(by_determinants(joint, [0, 1], [2, 4]), rel=1e-6)
    assert gaussian(covariance, [0], [0]) == pytest.approx(-0.5 * np.log(1e-12), rel=0.1)
    covariance[3] = covariance[:, 3] = 0.0
    assert gaussian(covariance, [3], [0]) == 0.0
    assert gaussian(covariance, [1, 3], [0]) == gaussian(covariance, [1], [0])
    assert gaussian(covariance, [], [0]) == 0.0


def test_gaussian_misuse():
    with pytest.raises(ValueError, match="noise"):
        gaussian(np.eye(2), [0], [1], noise=-1.0)
    with pytest.raises(ValueError, match="not a covariance"):
        gaussian(np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), [0, 1], [2])


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


def test_linear_targets_are_the_moments_of_the_outputs():
    rng = np.random.default_rng(4)
    x, weights = rng.normal(size=(53, 5)), rng.normal(size=(5, 3))
    joint = Moments.of(np.concatenate([x, x @ weights], axis=1)).covariance
    cross, variance = linear_targets(joint[:5, :5], weights)
    np.testing.assert_allclose(cross, joint[:5, 5:])
    np.testing.assert_allclose(variance, np.diagonal(joint)[5:])


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


def classes_of(seed: int, shift: float, rows: int = 401) -> list[Moments]:
    rng = np.random.default_rng(seed)
    return [Moments.of(rng.normal(size=(rows, 3)) + shift * c * np.array([1.0, 0.0, -1.0])) for c in (-1, 0, 1)]


def test_labels_equal_the_gaussian_information_about_the_indicator():
    classes = classes_of(6, 0.3)
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(size=(401, 3)) + 0.3 * c * np.array([1.0, 0.0, -1.0]) for c in (-1, 0, 1)])
    joint = Moments.of(np.concatenate([x, np.repeat(np.eye(3), 401, axis=0)], axis=1)).covariance
    assert gaussian_mixture_labels(classes, range(3)) == pytest.approx(gaussian(joint, range(3), [3, 4]), rel=1e-6)


def test_labels_bounds():
    assert gaussian_mixture_labels(classes_of(7, 0.0, 20011), range(3)) < 3 * 2 / (2 * 20011)
    assert gaussian_mixture_labels(classes_of(7, 1e3), range(3)) == pytest.approx(np.log(3))
    classes = classes_of(7, 0.5)
    assert gaussian_mixture_labels(classes, [0]) <= gaussian_mixture_labels(classes, [0, 2])
    assert gaussian_mixture_labels([classes[0], Moments.empty((), 3)], range(3)) == 0.0
    with pytest.raises(ValueError, match="no class"):
        gaussian_mixture_labels([Moments.empty((), 3)], [0])


def test_label_weights_are_the_regression_on_the_indicator():
    classes = classes_of(8, 0.7)
    weights = label_weights([*classes, Moments.empty((), 3)], ridge=0.0)
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.normal(size=(401, 3)) + 0.7 * c * np.array([1.0, 0.0, -1.0]) for c in (-1, 0, 1)])
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    expected = np.linalg.lstsq(design, np.repeat(np.eye(3), 401, axis=0), rcond=None)[0][:3]
    np.testing.assert_allclose(weights[:, :3], expected, atol=1e-10)
    assert not weights[:, 3].any()
