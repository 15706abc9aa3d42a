"""Quantities with their units: what users write is read, what is printed is one spelling everywhere."""

from __future__ import annotations

import numpy as np
import pytest

import onnxmi
from onnxmi.budget.units import (
    BYTES,
    COUNT,
    FACTOR,
    MILLISECONDS,
    POINTS,
    SECONDS,
    SHARE,
    read_quantity,
    size_text,
    speed_text,
    time_text,
)
from onnxmi.errors import UsageError


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("12MB", BYTES, 12e6),
        ("12 mb", BYTES, 12e6),
        ("1.5GiB", BYTES, 1.5 * 1024**3),
        ("100k", BYTES, 1e5),
        (4096, BYTES, 4096),
        ("300M", COUNT, 3e8),
        ("1e9", COUNT, 1e9),
        ("8", MILLISECONDS, 8),
        ("8ms", MILLISECONDS, 8),
        ("0.5s", MILLISECONDS, 500),
        ("800us", MILLISECONDS, 0.8),
        ("800ms", SECONDS, 0.8),
        ("2min", SECONDS, 120),
        ("1.5x", FACTOR, 1.5),
        ("60%", SHARE, 0.6),
        ("1%", POINTS, 0.01),
        (0.01, POINTS, 0.01),
        (np.float32(0.5), SHARE, 0.5),
        (np.int64(7), BYTES, 7),
        ("-.5", POINTS, -0.5),
    ],
)
def test_quantities(text, unit, value):
    assert read_quantity(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        ("", BYTES, "'' is not a size such as 10MB"),
        ("MB", BYTES, "'MB' is not a size such as 10MB"),
        ("8ms", BYTES, "'8ms' is not a size such as 10MB"),
        ("12MB", COUNT, "'12MB' is not a count such as 300M"),
        ("12MB", MILLISECONDS, "'12MB' is not a time such as 5ms"),
        ("nan", FACTOR, "'nan' is not a factor such as 2x"),
        ("inf", SHARE, "'inf' is not a share such as 50%"),
        ("1..2", POINTS, "'1..2' is not a loss such as 1%"),
        (True, FACTOR, "True is not a factor such as 2x"),
        ([2], FACTOR, r"\[2\] is not a factor such as 2x"),
        (None, SECONDS, "None is not a time such as 5s"),
    ],
)
def test_what_is_no_quantity(value, unit, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        read_quantity(value, unit)


def test_what_is_printed():
    assert [size_text(size) for size in (7, 999_949, 12_345_678)] == ["0.0 kB", "999.9 kB", "12.35 MB"]
    assert [COUNT.show(count) for count in (999_999, 12_345_678)] == ["999,999", "12.35 M"]
    assert (time_text(1.23456), time_text(1.5, 0.25)) == ("1.235 ms", "1.500 ± 0.250 ms")
    assert (speed_text(1.5), speed_text(0.5)) == ("1.50x faster", "2.00x slower")
    assert (FACTOR.show(1.5), SHARE.show(0.3), POINTS.show(0.01)) == ("1.50x", "x 0.300", "0.0100")


def test_options_take_quantities_as_texts():
    written = onnxmi.PruneOptions(
        keep="30%", max_size="1.5MB", params="25%", macs="0.5x", speedup="2x", max_latency="0.2s", max_drop="1%"
    )
    assert written.budget.asked == {
        "keep": 0.3,
        "max_size": 1_500_000,
        "params": 0.25,
        "macs": 0.5,
        "speedup": 2.0,
        "max_latency": 200.0,
        "max_drop": 0.01,
    }
    assert onnxmi.PruneOptions(memory="2GB").memory == 2_000_000_000


def test_one_name_needs_no_list():
    options = onnxmi.PruneOptions(cut="ffn, heads", skip="*/attention/*", only=["a", "b"])
    assert (options.cut, options.skip, options.only) == (("ffn", "heads"), ("*/attention/*",), ("a", "b"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speedup": "fast"}, "speedup: 'fast' is not a factor such as 2x"),
        (
            {"max_size": float("inf")},
            "max_size: inf is not a size such as 10MB, or 50% of the original",
        ),
        ({"threads": "two"}, "threads: 'two' is not a whole number"),
        ({"threads": 1.0}, "threads: 1.0 is not a whole number"),
        ({"seed": True}, "seed: True is not a whole number"),
        ({"repair": "no"}, "repair: 'no' is neither True nor False"),
        ({"latency": "5ms"}, "latency: '5ms' is neither True nor False"),
        ({"skip": 3}, "skip: 3 is neither a text nor a list of texts"),
        ({"skip": [3]}, r"skip: \[3\] is neither a text nor a list of texts"),
        ({"score": None}, "score: None is not a text"),
        ({"mask": 7}, "mask: 7 is not a text"),
    ],
)
def test_options_of_wrong_types_are_one_line(options, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        onnxmi.PruneOptions(**options)


def test_a_size_may_be_a_share_of_the_original():
    options = onnxmi.PruneOptions(max_size="37%")
    options.check()
    assert options.for_file(1009).max_size == 373
    assert onnxmi.PruneOptions(max_size="3kB").for_file(1009).max_size == 3000
    for wrong in ("0%", "101%", "x%", "-3%"):
        with pytest.raises(UsageError, match="max_size: "):
            onnxmi.PruneOptions(max_size=wrong)
