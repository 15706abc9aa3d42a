"""Quantities with their units: read as users write them ("10MB", "5ms", "2x", "50%"), and printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import NoReturn

from onnxmi.errors import UsageError

_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([a-z%]*)\s*")


@dataclass(frozen=True)
class Unit:
    """A unit: how quantities are written, and how they are printed.

    Attributes
    ----------
    noun : str
        What is measured in it, for error messages.
    factors : mapping of str to float
        Suffix, in lower case, -> what it multiplies with; "" for a bare number.
    example : str
        For error messages and help.
    show : callable(float) -> str
        A quantity for people.
    decimals : int
        Of the ends of an interval.
    typed : callable(float) -> str
        A quantity as it would be typed on the command line.
    """

    noun: str
    factors: Mapping[str, float]
    example: str
    show: Callable[[float], str]
    decimals: int = 0
    typed: Callable[[float], str] = "{:g}".format


def size_text(size: float) -> str:
    """Print a number of bytes."""
    return f"{size / 1e6:,.2f} MB" if abs(size) >= 1e6 else f"{size / 1e3:,.1f} kB"


def count_text(number: float) -> str:
    """Print a large count."""
    return f"{number / 1e6:,.2f} M" if abs(number) >= 1e6 else f"{number:,.0f}"


def time_text(milliseconds: float, spread: float | None = None) -> str:
    """Print a time in ms, and how far single runs spread around it."""
    return f"{milliseconds:,.3f} ms" if spread is None else f"{milliseconds:.3f} ± {spread:.3f} ms"


def speed_text(speedup: float) -> str:
    """Print how many times as fast, or as slow."""
    return f"{speedup:.2f}x faster" if speedup >= 1 else f"{1 / speedup:.2f}x slower"


def percent_text(share: float) -> str:
    """Print a share; it says 0% or 100% only of exactly none or all, and has a digit more near both."""
    if 0.1 <= share < 0.99 or share >= 10 or share in (0.0, 1.0):
        return f"{share:.0%}"
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{min(share, 0.999) if share < 1 else share:.1%}"


def change_text(left: float, less: str = "smaller", more: str = "larger") -> tuple[str, str]:
    """Return how far a share of a cost that is left is from all of it, and which way: `("30%", "smaller")`."""
    return percent_text(abs(1 - left)), less if left <= 1 else more


def typed_size(size: float) -> str:
    """Write a number of bytes as users do: `60MB`."""
    steps = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next((f"{size / step:.4g}{suffix}" for step, suffix in steps if size >= step), f"{size:g}B")


def typed_percent(share: float) -> str:
    """Write a share as users do: `50%`."""
    return f"{100 * share:.4g}%"


_THOUSANDS = {letter: 1000.0**power for power, letter in enumerate(("", "k", "m", "g", "t"))}
_POWERS = {f"{letter}i": 1024.0**power for power, letter in enumerate(("", "k", "m", "g", "t")) if letter}
_BYTES = {f"{letters}{b}": factor for letters, factor in (_THOUSANDS | _POWERS).items() for b in ("", "b")}


class ShareOfFile(float):
    """A size as a share of the original's file, before that is read."""


BYTES = Unit("size", _BYTES, "10MB", size_text, typed=typed_size)
COUNT = Unit("count", _THOUSANDS, "300M", count_text)
MILLISECONDS = Unit(
    "time", {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4}, "5ms", time_text, 3, "{:g}ms".format
)
SECONDS = Unit("time", {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}, "5s", lambda time: f"{time:g} s")
FACTOR = Unit("factor", {"": 1.0, "x": 1.0, "%": 0.01}, "2x", lambda factor: f"{factor:.2f}x", 2, "{:g}x".format)
SHARE = Unit("share", {"": 1.0, "x": 1.0, "%": 0.01}, "50%", lambda share: f"x {share:.3f}", 3, typed_percent)
POINTS = Unit("loss", {"": 1.0, "%": 0.01}, "1%", lambda points: f"{points:.4f}", 4, typed_percent)


def read_quantity(value: object, unit: Unit) -> float:
    """Read a quantity such as "12MB"; a bare number is in bytes, ms, or a plain ratio.

    Parameters
    ----------
    value : str or number
        What a user wrote.
    unit : Unit
        Its unit.

    Returns
    -------
    float
        Bytes, ms, seconds, a count or a ratio.

    Raises
    ------
    UsageError
        If it is no quantity in this unit.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    match = _NUMBER.fullmatch(value.lower()) if isinstance(value, str) else None
    if match is None or match[2] not in unit.factors:
        raise UsageError(f"{value!r} is not a {unit.noun} such as {unit.example}")
    return float(match[1]) * unit.factors[match[2]]


def read_file_size(value: object) -> int | ShareOfFile:
    """Read the size of a file: bytes such as "12MB", or a percentage of the original's, such as "50%".

    Raises
    ------
    UsageError
        If it is neither, or a percentage beyond 0 to 100.
    """
    if isinstance(value, ShareOfFile):
        return value
    if not (isinstance(value, str) and value.strip().endswith("%")):
        size = read_quantity(value, BYTES)
        return int(size) if isfinite(size) else _refuse_size(value)
    share = read_quantity(value, SHARE)
    return ShareOfFile(share) if 0 < share <= 1 else _refuse_size(value)


def _refuse_size(value: object) -> NoReturn:
    raise UsageError(f"{value!r} is not a {BYTES.noun} such as {BYTES.example}, or 50% of the original")
