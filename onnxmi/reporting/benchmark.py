"""What a benchmark found: tables for people, plain data, and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console

from onnxmi.benchmark.compare import Bench, Row, Setting, Subject
from onnxmi.budget.units import size_text
from onnxmi.graph.macs import multiplies
from onnxmi.reporting.tables import NumberTable, plain
from onnxmi.runtime.profile import OperatorTime
from onnxmi.runtime.timing import Interval

SHOWN = 12  # operators that the terminal shows; --json has all
COLUMNS = 3  # models whose names fit over the columns of a table; more are numbered
SLOWED = 1.5  # operators that add up to more than this many times the latency were slowed down by the profiler


def show_bench(console: Console, bench: Bench) -> None:
    """Print the models, their times in each setting, and where the time goes."""
    console.print(_subjects(bench))
    for setting, rows in groupby(bench.rows, key=lambda row: row.setting):
        shown = list(rows)
        console.print(_times(setting, shown))
        if bench.by_steps:
            console.print(_steps(bench.subjects, shown))
    if bench.operators:
        console.print(_operators(bench))
        console.print(plain(_heavy_shares(bench)), "")
    for note in filter(None, [_slowed(bench) if bench.operators else None, *bench.notes]):
        console.print(plain(f"note: {note}"))


def _subjects(bench: Bench) -> NumberTable:
    first = bench.rows[: len(bench.subjects)]
    memory = [row.memory for row in first if row.memory is not None]
    many = len(bench.subjects) > COLUMNS
    table = NumberTable(
        "Models", "model", "file size", "parameters", "MACs a sample", *(["peak memory"] if memory else [])
    )
    for number, (subject, row) in enumerate(zip(bench.subjects, first, strict=True), 1):
        name = f"{number} {subject.name}" if many else subject.name
        cells = [size_text(subject.size), f"{subject.parameters:,}", f"{row.macs:,}"]
        cells += [] if row.memory is None else [size_text(row.memory)]
        table.add_row(plain(name), *cells)
    return table


def setting_text(setting: Setting) -> str:
    """Return a setting in words."""
    threads = {0: "onnxruntime's choice of threads", 1: "1 thread"}.get(setting.threads, f"{setting.threads} threads")
    length = "" if setting.length is None else f", length {setting.length}"
    return f"{threads}, batch {setting.batch}{length}"


def _times(setting: Setting, rows: Sequence[Row]) -> NumberTable:
    compared = len(rows) > 1
    headings = ["model", "median, ms", "p95", "samples/s", "GMAC/s", *(["speed-up"] if compared else [])]
    table = NumberTable(f"Latency: {setting_text(setting)}, {len(rows[0].latency.times)} runs", *headings)
    for index, row in enumerate(rows):
        median = f"{row.latency.median:.3f} ± {row.latency.spread:.3f}"
        cells = [median, f"{row.latency.p95:.3f}", f"{row.throughput:,.0f}", f"{row.gmacs_per_second:.1f}"]
        cells += [_ratio(row.speedup, row.speedup_interval) if index else ""] if compared else []
        table.add_row(plain(row.model), *cells)
    return table


def _ratio(value: float, interval: Interval) -> str:
    half = (interval.high - interval.low) / 2
    return f"{value:.2f} ± {half:.2f}" if math.isfinite(half) else f"{value:.2f}"


def _steps(subjects: Sequence[Subject], rows: Sequence[Row]) -> NumberTable:
    """One row a model but the first: what it is of the model before it."""
    table = NumberTable(
        "What each step did: times the model before it", "model", "file", "MACs", "as fast", "stored as"
    )
    for before, subject, was, row in zip(subjects, subjects[1:], rows, rows[1:], strict=False):
        macs = f"{row.macs / was.macs:.2f}" if was.macs else ""
        cells = [f"{subject.size / before.size:.2f}", macs, _ratio(row.step, row.step_interval), subject.stored]
        table.add_row(plain(subject.name), *cells)
    return table


# -- operators --------------------------------------------------------------------------------------------------------


def _operators(bench: Bench) -> NumberTable:
    """One row an operator, the longest of any model first; ms of a run in the first setting, and how many nodes."""
    many = len(bench.subjects) > COLUMNS
    headings = [str(number) if many else subject.name for number, subject in enumerate(bench.subjects, 1)]
    table = NumberTable(f"Where the time goes, ms{'' if many else ' (nodes)'}", "operator", *headings)
    found = [{entry.operator: entry for entry in operators} for operators in bench.operators]
    names = {name: max(at[name].milliseconds for at in found if name in at) for at in found for name in at}
    ranked = sorted(names, key=lambda name: -names[name])
    for name in ranked[:SHOWN]:
        table.add_row(plain(name), *(_cell(at.get(name), short=many) for at in found))
    if len(ranked) > SHOWN:
        rest = [sum(at[name].milliseconds for name in ranked[SHOWN:] if name in at) for at in found]
        table.add_row(f"{len(ranked) - SHOWN} others", *(f"{time:.3f}" for time in rest))
    table.add_section()
    table.add_row("all", *(f"{_total(operators):.3f}" for operators in bench.operators))
    return table


def _cell(entry: OperatorTime | None, *, short: bool) -> str:
    if entry is None:
        return "-"
    return f"{entry.milliseconds:.3f}" + ("" if short else f" ({entry.nodes})")


def _total(operators: Sequence[OperatorTime]) -> float:
    return sum(entry.milliseconds for entry in operators)


def _heavy_shares(bench: Bench) -> str:
    """Say how much of the time is in products, which shrink with two widths."""
    shares = []
    for number, (subject, operators) in enumerate(zip(bench.subjects, bench.operators, strict=True), 1):
        heavy, total = _total([entry for entry in operators if multiplies(entry.operator)]), _total(operators)
        name = f"model {number}" if len(bench.subjects) > COLUMNS else subject.name
        shares.append(f"{heavy / total if total else 0.0:.0%} of {name}")
    return f"Products and convolutions, whose work shrinks fastest when widths are cut: {', '.join(shares)}."


def _slowed(bench: Bench) -> str | None:
    """Say where the profiler made a model so slow that the shares of its operators mean little."""
    pairs = zip(bench.subjects, bench.rows, bench.operators, strict=False)
    slow = [subject.name for subject, row, found in pairs if _total(found) > SLOWED * row.latency.median]
    if not slow:
        return None
    return f"the profiler slowed {', '.join(slow)} down: small operators look longer than they are"


# -- for machines -----------------------------------------------------------------------------------------------------


def bench_data(bench: Bench) -> dict[str, Any]:
    """Return everything a benchmark found, as plain data."""
    pairs = zip(bench.subjects, bench.operators, strict=True) if bench.operators else ()
    return {
        "models": [vars(subject) for subject in bench.subjects],
        "rows": [row_data(row) for row in bench.rows],
        "operators": {
            subject.name: [{**vars(entry), "heavy": multiplies(entry.operator)} for entry in operators]
            for subject, operators in pairs
        },
        "notes": list(bench.notes),
    }


def row_data(row: Row) -> dict[str, Any]:
    """Return one row as plain data: times in ms, memory in bytes."""
    interval = row.latency.interval()
    return {
        "model": row.model,
        **vars(row.setting),
        "runs": len(row.latency.times),
        "median_ms": row.latency.median,
        "median_low_ms": interval.low,
        "median_high_ms": interval.high,
        "spread_ms": row.latency.spread,
        "p95_ms": row.latency.p95,
        "samples_per_second": row.throughput,
        "speedup": row.speedup,
        "speedup_low": row.speedup_interval.low,
        "speedup_high": row.speedup_interval.high,
        "step": row.step,
        "step_low": row.step_interval.low,
        "step_high": row.step_interval.high,
        "macs": row.macs,
        "gmacs_per_second": row.gmacs_per_second,
        "memory_bytes": row.memory,
    }


def bench_csv(bench: Bench) -> str:
    """Return the rows as CSV, with each model's size and parameters."""
    facts = {subject.name: {"file_bytes": subject.size, "parameters": subject.parameters} for subject in bench.subjects}
    rows = [{**row_data(row), **facts[row.model]} for row in bench.rows]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
