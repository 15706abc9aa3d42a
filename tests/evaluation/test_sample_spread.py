"""Standard errors of means over samples, from sums."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.evaluation.sample_spread import SampleSpread

RNG = np.random.default_rng(5)


def test_of_one_row_a_sample_it_is_that_of_the_mean() -> None:
    values, spread = RNG.exponential(size=67), SampleSpread()
    for start in range(0, 67, 13):
        batch = values[start : start + 13]
        spread.add(batch, np.arange(len(batch)))
    assert spread.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(67))


def test_rows_of_a_sample_are_no_samples() -> None:
    """Seven equal rows say no more than one."""
    values, one, many = RNG.exponential(size=31), SampleSpread(), SampleSpread()
    one.add(values, np.arange(31))
    many.add(np.repeat(values, 7), np.repeat(np.arange(31), 7))
    assert many.standard_error == pytest.approx(one.standard_error)


def test_samples_of_unequal_length_are_those_of_a_ratio() -> None:
    """As the means of many draws of samples differ."""
    lengths, rates = RNG.integers(1, 9, size=4_001), RNG.exponential(size=4_001)
    means = []
    for _ in range(400):
        drawn = RNG.integers(0, len(lengths), size=211)
        means.append((rates[drawn] * lengths[drawn]).sum() / lengths[drawn].sum())
    spread, drawn = SampleSpread(), RNG.integers(0, len(lengths), size=211)
    spread.add(np.repeat(rates[drawn], lengths[drawn]), np.repeat(np.arange(211), lengths[drawn]))
    assert spread.standard_error == pytest.approx(np.std(means), rel=0.25)


def test_one_sample_alone_and_what_is_not_finite_tell_nothing() -> None:
    one, lost = SampleSpread(), SampleSpread()
    assert one.standard_error == 0.0
    one.add(RNG.normal(size=5), None)
    lost.add(np.array([0.1, np.inf]), np.arange(2))
    assert one.standard_error == lost.standard_error == 0.0
