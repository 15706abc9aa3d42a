"""Numbers as the page spells them."""

from __future__ import annotations

from onnxmi.budget.units import count_text, percent_text, size_text, speed_text, time_text

NOTHING = "\N{EN DASH}"  # where a number is missing
_TIMES = "\N{MULTIPLICATION SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"  # a number and its unit stay on one line
_MILLIONS = 1e7  # counts below are printed in full
_PRINTED = {"bytes": size_text, "count": lambda count: f"{count:,.0f}", "ms": time_text}


def amount(value: float | None, unit: str) -> str:
    """A count (M for millions), a number of bytes or a time in ms."""
    if value is None:
        return NOTHING
    show = count_text if unit == "count" and value >= _MILLIONS else _PRINTED[unit]
    return show(value).replace(" ", _SPACE)


def percent(share: float | None) -> str:
    """A share, or that there is none; see `percent_text`."""
    return NOTHING if share is None else percent_text(share)


def decimal(value: float | None, digits: int = 4) -> str:
    """A measured number."""
    if value is None:
        return NOTHING
    return f"{value:.{digits}f}" if value == 0 or 10**-digits <= abs(value) < 1e6 else f"{value:.3g}"


def speed(speedup: float | None) -> str:
    """How many times as fast, or as slow."""
    if speedup is None or speedup <= 0:
        return NOTHING
    return speed_text(speedup).replace("x", _TIMES)


def points(change: float) -> str:
    """A change of a share, in percentage points."""
    return f"{100 * change:+.1f} points".replace("-", "\N{MINUS SIGN}")


def counted(number: int, thing: str) -> str:
    """A number of things."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
