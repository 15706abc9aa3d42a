from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmi.information import MomentAccumulator, Moments


def rows_of(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) @ rng.normal(size=(shape[-1], shape[-1])) + rng.normal(size=shape[-1]) * 7


def assert_same(left: Moments, right: Moments, rtol: float = 1e-10) -> None:
    assert left.count == right.count
    scale = np.sqrt(np.abs(right.scatter).max()) + np.abs(right.mean).max()
    np.testing.assert_allclose(left.mean, right.mean, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(left.scatter, right.scatter, rtol=rtol, atol=rtol * scale**2)


def test_agrees_with_numpy():
    rows = rows_of(0, 101, 7)
    moments = Moments.of(rows)
    assert (moments.count, moments.features) == (101, 7)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0))
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T, bias=True))
    np.testing.assert_allclose(moments.variance, rows.var(axis=0))


def test_groups_are_independent():
    rows = rows_of(1, 3, 2, 53, 5)
    moments = Moments.of(rows)
    for index in np.ndindex(3, 2):
        assert_same(moments.group(*index), Moments.of(rows[index]))
    taken = moments.take([4, 1])
    np.testing.assert_array_equal(taken.group(2, 1).scatter, moments.group(2, 1).take([4, 1]).scatter)
    assert_same(taken, Moments.of(rows[..., [4, 1]]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 37), max_size=5), st.randoms(use_true_random=False), st.booleans())
def test_any_split_merged_in_any_order_gives_the_same(cuts, random, nested):
    rows = rows_of(2, 37, 5)
    parts = [Moments.of(part) for part in np.split(rows, sorted(cuts))]
    random.shuffle(parts)
    if nested and len(parts) > 2:
        parts = [parts[0], reduce(Moments.merge, parts[1:])]
    assert_same(reduce(Moments.merge, parts), Moments.of(rows))


def test_empty_is_neutral():
    moments = Moments.of(rows_of(3, 2, 11, 3))
    empty = Moments.empty((2,), 3)
    assert_same(moments.merge(empty), moments)
    assert_same(empty.merge(moments), moments)
    assert empty.merge(empty).count == 0
    with pytest.raises(ValueError, match="no rows"):
        _ = empty.covariance


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32])
@pytest.mark.parametrize("chunk", [1, 13, 4096])
def test_accumulator_matches_float64(dtype, chunk):
    rows = rows_of(4, 211, 7).astype(dtype)
    accumulator = MomentAccumulator(chunk=chunk)
    for part in np.split(rows, [0, 5, 100]):
        accumulator.update(part)
    exact = Moments.of(rows.astype(np.float64))
    assert_same(accumulator.moments(), exact, rtol=1e-10 if dtype in (np.float64, np.int32) else 2e-6)


def test_a_large_mean_does_not_drown_the_scatter():
    rows = (rows_of(5, 5003, 5) * 0.01 + 1e4).astype(np.float32)
    accumulator = MomentAccumulator(chunk=997)
    accumulator.update(rows)
    exact, moments = Moments.of(rows), accumulator.moments()
    # Chunks are centred by a mean rounded to float32, here by up to a thirtieth of a deviation: it must be made good.
    np.testing.assert_allclose(moments.mean, exact.mean, rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, exact.covariance, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e8, 1e25])
def test_scales(scale):
    rows = (rows_of(6, 103, 5) * scale).astype(np.float32)
    accumulator = MomentAccumulator()
    accumulator.update(rows)
    exact = Moments.of(rows)
    relative = np.sqrt(np.outer(exact.variance, exact.variance))
    assert np.abs(accumulator.moments().covariance / relative - exact.covariance / relative).max() < 1e-6


def test_a_constant_feature_has_no_variance():
    accumulator = MomentAccumulator(chunk=7)
    accumulator.update(np.full((1001, 2), 0.1, dtype=np.float32))
    assert not accumulator.moments().scatter.any()


def test_the_moments_are_a_copy():
    accumulator = MomentAccumulator()
    accumulator.update(rows_of(7, 5, 3))
    before = accumulator.moments()
    mean = before.mean.copy()
    accumulator.update(rows_of(8, 5, 3))
    np.testing.assert_array_equal(before.mean, mean)


def add(rows):
    accumulator = MomentAccumulator()
    accumulator.update(rows)
    accumulator.moments()


def test_how_rows_come_in_parts_changes_nothing():
    rows = rows_of(10, 100, 3).astype(np.float32)
    whole, parts = MomentAccumulator(chunk=16), MomentAccumulator(chunk=16)
    whole.update(rows)
    for part in np.split(rows, [1, 1, 7, 40, 99]):
        parts.update(part)
    np.testing.assert_array_equal(whole.moments().scatter, parts.moments().scatter)
    np.testing.assert_array_equal(whole.moments().mean, parts.moments().mean)


def test_waiting_rows_are_copies():
    rows = rows_of(11, 5, 3)
    accumulator = MomentAccumulator()
    accumulator.update(rows)
    wanted = Moments.of(rows)
    rows[:] = 0.0
    np.testing.assert_allclose(accumulator.moments().scatter, wanted.scatter)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_feature_has_no_variance_at_all(dtype):
    rows = rows_of(12, 5000, 3).astype(dtype)
    rows[:, 1] = 0.37
    accumulator = MomentAccumulator(chunk=1000)
    accumulator.update(rows)
    moments = accumulator.moments()
    assert moments.mean[1] == float(dtype(0.37))
    assert not moments.scatter[1].any()
    assert not moments.scatter[:, 1].any()


def test_misuse():
    accumulator = MomentAccumulator()
    with pytest.raises(ValueError, match="no rows"):
        accumulator.moments()
    accumulator.update(np.zeros((0, 3)))
    assert accumulator.moments().count == 0
    with pytest.raises(ValueError, match="follow rows"):
        accumulator.update(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="not finite"):
        add(np.full((5, 3), np.nan))
    with pytest.raises(ValueError, match="overflow"):
        add(np.array([[1e200] * 3, [-1e200] * 3]))
    with pytest.raises(ValueError, match="expected"):
        accumulator.update(np.zeros(3))
    with pytest.raises(ValueError, match="chunk"):
        MomentAccumulator(chunk=0)
    moments = Moments.of(rows_of(9, 5, 3))
    with pytest.raises(ValueError, match="merge"):
        moments.merge(Moments.empty((), 2))
    with pytest.raises(ValueError, match="does not fit"):
        Moments(1, np.zeros(2), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="group axes"):
        moments.group(0)


def test_few_rows_wait_where_they_are_long(monkeypatch):
    """Of hundreds of groups 2,048 rows would take more than the model; and what comes first must not matter."""
    monkeypatch.setattr("onnxmi.information.moments.CHUNK_BYTES", 13 * 7 * 5 * 4)
    rows = np.random.default_rng(29).normal(size=(7, 101, 5)).astype(np.float32)
    accumulator = MomentAccumulator()
    accumulator.update(rows[:, :0])
    accumulator.update(rows)
    assert accumulator._waiting.shape == (7, 13, 5)
    np.testing.assert_allclose(
        accumulator.moments().scatter, Moments.of(rows.astype(np.float64)).scatter, rtol=1e-4, atol=1e-3
    )
