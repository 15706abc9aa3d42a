"""Damage as people read it."""

from __future__ import annotations

import math

import pytest

from onnxmi.reporting.text import damage_text


@pytest.mark.parametrize(
    ("damage", "text"),
    [(0.0, "0.00%"), (0.0312, "3.12%"), (2.87, "287.00%"), (397_926_847.0, "over 1000%"), (math.inf, "over 1000%")],
)
def test_damage_beyond_ten_constants_is_not_counted(damage: float, text: str) -> None:
    assert damage_text(damage) == text
