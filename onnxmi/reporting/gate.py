"""What a gate found: a table for people, plain data, Markdown for a job's page, annotations, JUnit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onnxmi.evaluation.comparison import OutputLoss
from onnxmi.gate.limits import Verdict
from onnxmi.gate.report import Report
from onnxmi.reporting.tables import NumberTable, printable

_SIGNS = {"pass": "✅", "warn": "⚠️", "FAIL": "❌"}
NARROW = 60  # columns below which each check has lines of its own instead of a row
_STYLES = {"pass": "green", "warn": "yellow", "FAIL": "bold red"}


def mark(verdict: Verdict) -> str:
    """Return the verdict in a word."""
    if not verdict.passed:
        return "FAIL"
    return "warn" if verdict.undecided else "pass"


def show_check(console: Console, report: Report) -> None:
    """Print every check: what was asked, what was measured, and the verdict."""
    against = "" if report.baseline is None else f" against {report.baseline}"
    console.print(_plain(f"Checks of {report.model}{against}", "bold"))
    console.print(_table(report) if console.width >= NARROW else _lines(report))
    if report.steps:
        console.print(_steps(report))
    for verdict in report.verdicts:
        if verdict.detail:
            console.print(Padding(_plain(f"{verdict.name}: {verdict.detail}"), (0, 0, 0, 1)))
    for line in output_lines(report):
        console.print(Padding(_plain(line), (0, 0, 0, 1)))
    for note in report.notes:
        console.print(Padding(_plain(f"note: {note}", "dim"), (0, 0, 0, 1)))


def _table(report: Report) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("asked", overflow="fold")
    table.add_column("measured", overflow="fold")
    for verdict in report.verdicts:
        word = mark(verdict)
        table.add_row(Text(word, _STYLES[word]), verdict.name, verdict.asked, verdict.measured)
    return table


def _steps(report: Report) -> NumberTable:
    """Return a row for each model between the baseline and the last, and for that: what was measured of it."""
    names = measured_names(report)
    table = NumberTable("What each step did, against the baseline", "model", *names)
    for model, cells in step_rows(report, names):
        table.add_row(_plain(model), *map(_plain, cells))
    return table


def measured_names(report: Report) -> tuple[str, ...]:
    """Return the names of the checks that have a limit."""
    return tuple(verdict.name for verdict in report.verdicts if verdict.limit is not None)


def step_rows(report: Report, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each model on the way to the last one, and that, with what was measured of it."""
    for step in (*report.steps, report):
        measured = {verdict.name: verdict.measured for verdict in step.verdicts}
        yield step.model, [measured.get(name, "") for name in names]


def _lines(report: Report) -> RenderableType:
    """Return a line for each check, with what was asked and measured below it: columns would break words."""
    rows: list[RenderableType] = []
    for verdict in report.verdicts:
        word = mark(verdict)
        rows.append(Text.assemble((word, _STYLES[word]), f" {verdict.name}"))
        for label, text in (("asked", verdict.asked), ("measured", verdict.measured)):
            rows += [Padding(_plain(f"{label} {text}"), (0, 0, 0, 5))] if text else []
    return Group(*rows, Text())


def output_lines(report: Report) -> Iterator[str]:
    """Yield a line for each output of a report."""
    yield from output_lines_of(report.outputs)


def output_lines_of(outputs: Sequence[OutputLoss]) -> Iterator[str]:
    """Yield a line for each output: what decides, and what else is known of it."""
    for output in outputs:
        others = [f"{reading.metric} {reading.now:.4f}" for reading in output.readings[1:]]
        if output.expected is not None:
            others.append(output.expected.text)
        yield f"output {output.name}, {output.kind}: {'; '.join((output.readings[0].text, *others))}"


def _plain(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, overflow="fold")


def check_data(report: Report) -> dict[str, Any]:
    """Return everything a gate found, as plain data: bytes, ms, ratios and points."""
    return {
        "model": report.model,
        "baseline": report.baseline,
        "passed": report.passed,
        "checks": [_verdict_data(verdict) for verdict in report.verdicts],
        "outputs": outputs_data(report.outputs),
        "notes": list(report.notes),
        "steps": [
            {"model": step.model, "checks": [_verdict_data(verdict) for verdict in step.verdicts]}
            for step in report.steps
        ],
    }


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    interval = None if verdict.interval is None else [verdict.interval.low, verdict.interval.high]
    return {**vars(verdict), "interval": interval}


def outputs_data(outputs: Sequence[OutputLoss]) -> list[dict[str, Any]]:
    """Return what is lost of each output."""
    return [_output_data(output) for output in outputs]


def _output_data(output: OutputLoss) -> dict[str, Any]:
    """What is lost of an output, by all its metrics; the first one decides."""
    metrics = [
        {"metric": reading.metric, "baseline": reading.was, "value": reading.now, "loss": vars(reading.loss)}
        for reading in output.readings
    ]
    expected = None if output.expected is None else vars(output.expected)
    return {"name": output.name, "kind": output.kind, "metrics": metrics, "expected_flips": expected}


def check_markdown(report: Report) -> str:
    """Return a section for a page such as GitHub's job summary."""
    failed = len(report.failed)
    total = len(report.verdicts)
    headline = f"❌ {failed} of {total} checks failed" if failed else f"✅ {total} checks passed"
    against = "" if report.baseline is None else f", against {_code(report.baseline)}"
    rows = [
        [_SIGNS[mark(verdict)], *map(_cell, (verdict.name, verdict.asked, verdict.measured, verdict.detail))]
        for verdict in report.verdicts
    ]
    lines = [
        f"### onnxmi check: {headline}",
        "",
        f"{_code(report.model)}{against}",
        "",
        "| | check | asked | measured | |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *_steps_markdown(report),
        *(f"{_cell(line)}\n" for line in output_lines(report)),
        *(f"_{_cell(note)}_\n" for note in report.notes),
    ]
    return "\n".join(lines) + "\n"


def _steps_markdown(report: Report) -> Iterator[str]:
    """Yield the lines of a table of the steps; none where there are no steps."""
    if report.steps:
        names = measured_names(report)
        yield f"| step | {' | '.join(names)} |"
        yield f"|{' --- |' * (len(names) + 1)}"
        for model, cells in step_rows(report, names):
            yield f"| {' | '.join(map(_cell, (model, *cells)))} |"
        yield ""


def _code(text: str) -> str:
    return f"`{printable(text).replace('`', chr(39))}`"


def _cell(text: str) -> str:
    """Escape what Markdown would take for something else: names come from files."""
    plain = printable(text)
    for character in "\\`*_|<[":
        plain = plain.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return plain


def github_annotations(report: Report) -> Iterator[str]:
    """Yield a line for each check that failed or is undecided, which GitHub shows on the page of a change."""
    for verdict in report.verdicts:
        if mark(verdict) == "pass":
            continue
        level = "error" if not verdict.passed else "warning"
        said = f"{report.model}: asked {verdict.asked or '-'}, measured {verdict.measured}"
        text = "; ".join(filter(None, [said, verdict.detail]))
        yield f"::{level} title={_property(f'onnxmi check: {verdict.name}')}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def junit_xml(report: Report) -> bytes:
    """Return one test suite with a test case for each check."""
    counts = {"tests": str(len(report.verdicts)), "failures": str(len(report.failed)), "errors": "0"}
    suites = Element("testsuites", counts)
    suite = SubElement(suites, "testsuite", {"name": "onnxmi check", **counts})
    for verdict in report.verdicts:
        named = {"classname": f"onnxmi.{printable(report.model)}", "name": verdict.name}
        case = SubElement(suite, "testcase", named)
        said = f"asked: {verdict.asked}; measured: {verdict.measured}"
        text = printable("; ".join(filter(None, [said, verdict.detail])))
        if verdict.passed:
            SubElement(case, "system-out").text = text
        else:
            SubElement(case, "failure", {"message": text, "type": "LimitExceeded"}).text = text
    indent(suites)
    return bytes(tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"
