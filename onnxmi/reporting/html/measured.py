"""What a page shows of `check --json` and `bench --json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxmi.reporting.html.fields import Fields
from onnxmi.reporting.html.wording import amount, counted, decimal, speed


@dataclass(frozen=True)
class VerdictRow:
    """A check: good, warn or bad, with what was asked and measured."""

    state: str
    name: str
    asked: str
    measured: str
    detail: str


@dataclass(frozen=True)
class TimeRow:
    """A model in one setting: its bar as a share of the longest, where its interval lies, and its numbers."""

    model: str
    setting: str
    time: str
    share: float
    low: float
    high: float
    speed: str


def is_check(data: Mapping[str, Any]) -> bool:
    """Whether this is what `check --json` prints."""
    return isinstance(data.get("checks"), list) and "passed" in data


def is_bench(data: Mapping[str, Any]) -> bool:
    """Whether this is what `bench --json` prints."""
    return isinstance(data.get("rows"), list) and isinstance(data.get("models"), list)


def check_context(data: Mapping[str, Any], where: str) -> dict[str, object]:
    """Return what the page of a check is filled with.

    Raises
    ------
    DataError
        If a field has another type.
    """
    fields = Fields(data, where)
    rows = tuple(map(_verdict, fields.entries("checks")))
    failed = [row.name for row in rows if row.state == "bad"]
    passed = f"All {counted(len(rows), 'check')} passed"
    return {
        "headline": f"{len(failed)} of {counted(len(rows), 'check')} failed" if failed else passed,
        "title": fields.text("model", 80),
        "output": "",
        "baseline": fields.text("baseline", 80),
        "failed": failed,
        "rows": rows,
        "notes": fields.texts("notes"),
    }


def _verdict(entry: Fields) -> VerdictRow:
    state = "bad" if not entry.flag("passed") else "warn" if entry.flag("undecided") else "good"
    texts = (entry.text(key) for key in ("name", "asked", "measured", "detail"))
    return VerdictRow(state, *texts)


def bench_context(data: Mapping[str, Any], where: str) -> dict[str, object]:
    """Return what the page of a benchmark is filled with.

    Raises
    ------
    DataError
        If a field has another type.
    """
    fields = Fields(data, where)
    rows = fields.entries("rows")
    longest = max((row.number("median_high_ms") or row.number("median_ms") or 0.0 for row in rows), default=0.0) or 1.0
    times = tuple(_time(row, longest) for row in rows)
    return {
        "headline": _bench_headline(rows),
        "title": ", ".join(entry.text("name", 60) for entry in fields.entries("models")),
        "output": "",
        "times": times,
        "models": tuple(map(_model, fields.entries("models"))),
        "notes": fields.texts("notes"),
    }


def _bench_headline(rows: tuple[Fields, ...]) -> str:
    """Say how much faster the fastest model is than the first, in the first setting."""
    setting = [row for row in rows if _setting(row) == _setting(rows[0])] if rows else []
    best = max(setting[1:], key=lambda row: row.number("speedup") or 0.0, default=None)
    if best is None:
        return f"{amount(rows[0].number('median_ms'), 'ms')} a run" if rows else "Nothing was measured"
    return f"{best.text('model', 60)} is {speed(best.number('speedup'))} than {setting[0].text('model', 60)}"


def _setting(row: Fields) -> str:
    threads = row.number("threads") or 0
    parts = ["onnxruntime's choice of threads" if not threads else counted(int(threads), "thread")]
    parts.append(f"batch {row.spelled('batch')}")
    if "length" in row:
        parts.append(f"length {row.spelled('length')}")
    return ", ".join(parts)


def _time(row: Fields, longest: float) -> TimeRow:
    median = row.number("median_ms") or 0.0
    ends = [row.number(key) for key in ("median_low_ms", "median_high_ms")]
    low, high = (median if end is None else end for end in ends)
    text = f"{amount(median, 'ms')} [{decimal(low, 3)}, {decimal(high, 3)}]"
    share, start, end = (min(max(value / longest, 0.0), 1.0) for value in (median, low, high))
    return TimeRow(row.text("model", 60), _setting(row), text, share, start, end, _speed(row))


def _speed(row: Fields) -> str:
    ends = [row.number(key) for key in ("speedup", "speedup_low", "speedup_high")]
    if ends[0] is None or ends[0] == 1.0:
        return ""
    span = "" if None in ends else f" [{decimal(ends[1], 2)}, {decimal(ends[2], 2)}]"
    return f"{speed(ends[0])}{span}"


def _model(entry: Fields) -> tuple[str, str, str]:
    return entry.text("name", 60), amount(entry.number("size"), "bytes"), amount(entry.number("parameters"), "count")
