import numpy as np
import pytest

from onnxmi.information import JointHistogram, discrete, pairwise_gaussian, quantile_edges


def counted(x: np.ndarray, y: np.ndarray, bins: int = 5) -> JointHistogram:
    histogram = JointHistogram(quantile_edges(x, bins), quantile_edges(y, bins + 2))
    histogram.update(x, y)
    return histogram


def test_counts_are_exact():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4099, 3)).astype(np.float32), rng.normal(size=(4099, 2))
    histogram = counted(x, y)
    assert histogram.counts.shape == (3, 5, 2, 7)
    for k in range(3):
        for m in range(2):
            of_x = np.searchsorted(histogram.edges_x[k], x[:, k])
            of_y = np.searchsorted(histogram.edges_y[m], y[:, m])
            expected = np.zeros((5, 7), dtype=int)
            np.add.at(expected, (of_x, of_y), 1)
            np.testing.assert_array_equal(histogram.counts[k, :, m], expected)


def test_many_features_are_counted_in_parts(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(101, 11)), rng.normal(size=(101, 3))
    whole = counted(x, y).counts
    monkeypatch.setattr("onnxmi.information.histogram._CELLS", 300)
    monkeypatch.setattr("onnxmi.information.histogram._ROWS", 17)
    np.testing.assert_array_equal(counted(x, y).counts, whole)


def test_merge_is_the_count_of_both():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(211, 3)), rng.normal(size=(211, 2))
    whole = counted(x, y)
    parts = [JointHistogram(whole.edges_x, whole.edges_y) for _ in range(2)]
    parts[0].update(x[:50], y[:50])
    parts[1].update(x[50:], y[50:])
    np.testing.assert_array_equal(parts[1].merge(parts[0]).counts, whole.counts)
    with pytest.raises(ValueError, match="different edges"):
        whole.merge(counted(x + 1, y))


def test_bins_are_nearly_equal_and_ties_get_their_own():
    rng = np.random.default_rng(3)
    plain = rng.normal(size=(1013, 1))
    clipped = np.clip(plain, 0.0, 0.5)
    for dtype in (np.float32, np.float64):
        x = np.concatenate([plain, clipped, np.full_like(plain, 0.1)], axis=1).astype(dtype)
        marginal = counted(x, x, bins=8).counts[:, :, 0].sum(axis=-1)
        assert np.isin(quantile_edges(x[:, :1], 8), x[:, 0]).all()
        assert np.abs(marginal[0] - 1013 / 8).max() <= 1
        assert {(x[:, 1] == 0).sum(), (x[:, 1] == x[:, 1].max()).sum()} <= set(marginal[1].tolist())
        assert sorted(marginal[2]) == [0] * 7 + [1013]


def test_information_of_known_pairs():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20011, 2))
    y = np.stack([0.8 * x[:, 0] + 0.6 * rng.normal(size=20011), np.abs(x[:, 1]), np.ones(20011)], axis=1)
    histogram = JointHistogram(quantile_edges(x, 16), quantile_edges(y, 16))
    histogram.update(x, y)
    information = histogram.mutual_information()
    truth = -0.5 * np.log(1 - 0.8**2)
    assert 0.9 * truth < information[0, 0] < truth
    # Gaussian information does not see |x|; bins do.
    covariance = np.cov(np.concatenate([x, y[:, :2]], axis=1).T)
    gaussian = pairwise_gaussian(covariance[:2, :2], covariance[:2, 2:], np.diagonal(covariance)[2:])
    assert gaussian[1, 1] < 1e-3 < 1.0 < information[1, 1]
    assert not information[:, 2].any()
    assert information[0, 1] < 2e-3
    uncorrected = histogram.mutual_information(correct=False)[0, 1]
    np.testing.assert_allclose(uncorrected, discrete(histogram.counts[0, :, 1]), rtol=1e-12)


def test_monotone_maps_change_nothing():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(1009, 2)), rng.normal(size=(1009, 1))
    np.testing.assert_array_equal(counted(x, y).counts, counted(np.exp(x), y * 1e-8).counts)


def test_few_rows():
    x = np.array([[1.0, 2.0]])
    assert not counted(x, x).mutual_information().any()


def test_misuse():
    with pytest.raises(ValueError, match="2 bins"):
        quantile_edges(np.zeros((3, 2)), 1)
    with pytest.raises(ValueError, match="expected"):
        quantile_edges(np.zeros((0, 2)), 5)
    with pytest.raises(ValueError, match="not finite"):
        quantile_edges(np.array([[np.inf]]), 5)
    histogram = JointHistogram(np.zeros((2, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="do not fit"):
        histogram.update(np.zeros((5, 2)), np.zeros((4, 1)))


def test_order_agrees_with_scikit_learn():
    feature_selection = pytest.importorskip("sklearn.feature_selection")
    rng = np.random.default_rng(6)
    x = rng.normal(size=(1009, 7))
    y = x @ np.array([2.0, 1.0, 0.5, 0.25, 0.0, 0.0, 0.0])
    histogram = JointHistogram(quantile_edges(x, 8), quantile_edges(y[:, None], 8))
    histogram.update(x, y[:, None])
    theirs = feature_selection.mutual_info_regression(x, y, random_state=0)
    covariance = np.cov(x.T)
    gaussian = pairwise_gaussian(covariance, (x - x.mean(0)).T @ (y - y.mean())[:, None] / 1008, np.array([y.var()]))
    for ours in (histogram.mutual_information()[:, 0], gaussian[:, 0]):
        np.testing.assert_array_equal(np.argsort(-ours)[:3], np.argsort(-theirs)[:3])
        np.testing.assert_allclose(ours[:4], theirs[:4], atol=0.12)
