"""The rule by which limits are judged."""

from __future__ import annotations

import math

import pytest

from onnxmi.gate.limits import LIMITS, Measured, judge
from onnxmi.runtime.timing import Interval

BELOW, AROUND, ABOVE = Interval(6.0, 7.0), Interval(7.0, 9.0), Interval(9.0, 10.0)


@pytest.mark.parametrize(
    ("value", "interval", "lenient", "strict"),
    [
        (6.5, BELOW, True, True),
        (7.9, AROUND, True, False),
        (8.1, AROUND, True, False),
        (9.5, ABOVE, False, False),
        (8.0, Interval(8.0, 8.0), True, True),
        (7.0, Interval(-math.inf, math.inf), True, False),
        (9.0, Interval(-math.inf, math.inf), False, False),
        (math.nan, None, False, False),
        (7.0, None, True, True),
        (9.0, None, False, False),
    ],
)
def test_a_time_fails_when_its_whole_interval_is_beyond(value, interval, lenient, strict):
    assert judge("max-latency", 8.0, Measured(value, interval)).passed is lenient
    assert judge("max-latency", 8.0, Measured(value, interval), strict=True).passed is strict


@pytest.mark.parametrize(
    ("value", "interval", "lenient", "strict"),
    [
        (6.5, BELOW, False, False),
        (7.9, AROUND, True, False),
        (8.1, AROUND, True, False),
        (9.5, ABOVE, True, True),
        (7.0, Interval(-math.inf, math.inf), False, False),
    ],
)
def test_a_speedup_has_its_better_end_above(value, interval, lenient, strict):
    assert judge("min-speedup", 8.0, Measured(value, interval)).passed is lenient
    assert judge("min-speedup", 8.0, Measured(value, interval), strict=True).passed is strict


@pytest.mark.parametrize(
    ("value", "lenient", "strict"),
    [(0.07, False, False), (0.02, True, False), (0.01, True, False), (-0.2, True, True), (math.inf, False, False)],
)
def test_a_drop_fails_when_it_is_proven_and_is_undecided_within_the_noise(value, lenient, strict):
    measured = Measured(value, Interval(value - 0.05, value + 0.05))
    verdict = judge("max-drop", 0.01, measured)
    assert (verdict.passed, verdict.undecided) == (lenient, lenient and not strict)
    assert judge("max-drop", 0.01, measured, strict=True).passed is strict


@pytest.mark.parametrize("value", [99.0, 100.0, 101.0])
@pytest.mark.parametrize("strict", [False, True])
def test_what_has_no_noise_is_compared_as_it_is(value, strict):
    assert judge("max-size", 100.0, Measured(value), strict=strict).passed is (value <= 100)


def test_a_verdict_says_what_was_asked_and_measured_and_how_sure_it_is():
    verdict = judge("max-latency", 8.0, Measured(8.1, AROUND))
    assert (verdict.asked, verdict.measured) == ("at most 8.000 ms", "8.100 ms [7.000, 9.000]")
    assert verdict.detail == "beyond, but within the noise"
    assert judge("max-latency", 8.0, Measured(7.9, AROUND)).detail.startswith("not certain")
    assert judge("max-latency", 8.0, Measured(6.5, BELOW)).detail == ""
    assert judge("min-speedup", 1.5, Measured(2.0, Interval(1.9, 2.1), "well")).detail == "well"
    assert judge("min-speedup", 1.5, Measured(2.0)).asked == "at least 1.50x"


def test_every_limit_says_what_it_bounds():
    assert all(limit.help and name.startswith("min-" if limit.least else "max-") for name, limit in LIMITS.items())
