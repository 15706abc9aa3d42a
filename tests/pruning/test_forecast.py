"""What a cut is going to lose: a foretold curve, moved and tilted to what was measured."""

from __future__ import annotations

from math import exp, log

import pytest

from onnxmi.pruning.forecast import SLOPES, Forecast

LEAST, LARGEST = log(0.13), log(0.95)


def foretold(place: float) -> float:
    return -3.0 * place - 5.0


def test_before_anything_is_measured_the_curve_counts():
    forecast = Forecast(foretold, 0.7)
    assert forecast(log(0.5)) == pytest.approx(foretold(log(0.5)) + 0.7)


def test_one_measurement_moves_the_curve():
    forecast = Forecast(foretold, 0.7)
    forecast.measured(log(0.5), 1.1)
    assert forecast(log(0.5)) == pytest.approx(1.1)
    assert forecast(log(0.3)) - forecast(log(0.5)) == pytest.approx(foretold(log(0.3)) - foretold(log(0.5)))


def test_two_measurements_tilt_it():
    forecast = Forecast(foretold, 0.0)
    truth = {place: 1.7 * foretold(place) + 2.0 for place in (log(0.3), log(0.5), log(0.7))}
    for place in (log(0.3), log(0.7)):
        forecast.measured(place, truth[place])
    for place in (log(0.3), log(0.5), log(0.7)):
        assert forecast(place) == pytest.approx(truth[place], abs=0.1)


def test_two_measurements_beside_each_other_tilt_it_by_next_to_nothing():
    """The smaller of two models may be better by chance: that says nothing on how the loss grows."""
    forecast = Forecast(foretold, 0.0)
    forecast.measured(log(0.5), 0.1)
    forecast.measured(log(0.49), -0.1)
    step = foretold(log(0.4)) - foretold(log(0.49))
    assert forecast(log(0.4)) - forecast(log(0.49)) == pytest.approx(step, rel=0.15)
    assert forecast(log(0.49)) == pytest.approx(0.03, abs=0.03)  # both say about the same of it


def test_no_measurement_tilts_it_further_than_is_likely():
    forecast = Forecast(foretold, 0.0)
    forecast.measured(log(0.9), -9.0)
    forecast.measured(log(0.8), 9.0)
    step = foretold(log(0.13)) - foretold(log(0.14))
    assert forecast(log(0.13)) - forecast(log(0.14)) == pytest.approx(SLOPES[1] * step)


def test_the_place_of_a_value_is_where_the_forecast_has_it():
    forecast = Forecast(foretold, 0.0)
    forecast.measured(log(0.5), 0.0)
    place = forecast.place_of(0.4, LEAST, LARGEST)
    assert forecast(place) == pytest.approx(0.4, abs=1e-6)
    assert exp(forecast.place_of(99.0, LEAST, LARGEST)) == pytest.approx(0.13, rel=1e-6)
    assert exp(forecast.place_of(-99.0, LEAST, LARGEST)) == pytest.approx(0.95)


def test_a_forecast_is_a_curve_for_the_next():
    """Models that are repaired on few samples are the curve for those that are repaired on all."""
    few = Forecast(foretold, 0.0)
    few.measured(log(0.5), 0.2)
    full = Forecast(few, log(0.9))
    assert full(log(0.5)) == pytest.approx(0.2 + log(0.9))
    full.measured(log(0.5), -0.1)
    assert full(log(0.3)) == pytest.approx(few(log(0.3)) - 0.3)
