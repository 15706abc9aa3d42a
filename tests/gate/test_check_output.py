"""How a gate says what it found: to people, to CI systems, to GitHub; and the file that configures it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from onnxmi.gate.limits import Verdict
from onnxmi.gate.report import Report
from onnxmi.reporting.gate import check_markdown, github_annotations, junit_xml

MARKS = ("pass", "warn", "FAIL")
HOSTILE = "a|b`c\x1b[31m<d>_e_\nf%,:.onnx"
BAD = Verdict("max-size", False, "at most 1 MB", "2 MB", "50% more,\r\nthan: asked")
GOOD = Verdict("runs", True, "finite outputs", "finite outputs")


def report(*verdicts):
    return Report(HOSTILE, None, verdicts, ("a note",))


# -- people -----------------------------------------------------------------------------------------------------------


def test_the_table_fits_80_columns_and_a_failure_is_named(place):
    place.takes(np.full(9, 20.0), np.full(9, 10.0))
    args = ("new.onnx", "--baseline", "old.onnx", "--data", "data.npz", "--max-size", "100B", "--min-speedup", "1.5")
    result = place.run(*args, "--max-drop", "5", "--max-p95", "100ms")
    assert result.exit_code == 1
    assert result.stderr == "onnxmi: error: 1 of 6 checks failed: max-size\n"
    assert max(map(len, result.stdout.splitlines())) <= 80
    lines = {line.split()[1]: line.split()[0] for line in result.stdout.splitlines() if line[1:5] in MARKS}
    assert (lines.pop("max-size"), lines.pop("max-p95")) == ("FAIL", "warn"), "nine runs have no 95th percentile"
    assert set(lines) == {"interface", "runs", "min-speedup", "max-drop"}
    assert set(lines.values()) == {"pass"}
    assert "timed in 9 runs" in result.stdout


def test_words_stay_whole_on_a_narrow_terminal(place, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    result = place.run("new.onnx", "--baseline", "old.onnx", "--max-size", "100B")
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert max(map(len, lines)) <= 40
    start = lines.index("FAIL max-size")
    assert lines[start + 1] == "     asked at most 0.1 kB"
    assert lines[start + 2].startswith("     measured ")
    assert "pass interface" in lines


def test_json_is_alone_on_standard_output_when_checks_fail(place):
    result = place.run("new.onnx", "--max-size", "100B", "--json")
    assert json.loads(result.stdout)["passed"] is False
    assert result.exit_code == 1


# -- machines ---------------------------------------------------------------------------------------------------------


def test_junit_has_a_case_for_each_check(place):
    place.run("new.onnx", "--max-size", "100B", "--max-macs", "1M", "--junit", "check.xml")
    suite = ET.parse("check.xml").getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert [case.get("name") for case in suite] == ["runs", "max-size", "max-macs"]
    assert failed == ["max-size"]
    assert suite[1].find("failure").get("message").startswith("asked: at most 0.1 kB; measured: ")


def test_junit_takes_any_name():
    suite = ET.fromstring(junit_xml(report(BAD, GOOD)))
    assert suite.get("failures") == "1"
    assert "\\x1b" in suite[0][0].get("classname")


def test_markdown_cannot_be_broken_out_of():
    text = check_markdown(report(BAD, GOOD))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert [row.replace("\\|", "").count("|") for row in rows] == [6, 6, 6]
    assert "\x1b" not in text
    assert "❌ 1 of 2 checks failed" in text
    assert "✅ 1 checks passed" in check_markdown(report(GOOD))
    assert check_markdown(Report("a|b<c>", None, (Verdict("x", True, "a|b", "<i>"),), ())).count("a\\|b | &lt;i>") == 1


def test_annotations_are_one_line_each_for_what_failed():
    (line,) = github_annotations(report(BAD, GOOD))
    assert line.startswith("::error title=onnxmi check%3A max-size::")
    assert line.endswith("asked at most 1 MB, measured 2 MB; 50%25 more,%0D%0Athan: asked")
    assert "\n" not in line


@pytest.mark.parametrize("size", ["100B", "1MB"])
def test_on_github_the_page_is_added_to(place, monkeypatch, size):
    page = place.folder / "page.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = place.run("new.onnx", "--max-size", size, "--json", "--markdown", "own.md")
    assert page.read_text() == "before\n" + (place.folder / "own.md").read_text()
    json.loads(result.stdout)
    assert result.stderr.count("::error title=") == (1 if size == "100B" else 0)


def test_what_is_undecided_is_a_warning():
    (line,) = github_annotations(report(GOOD, replace(BAD, passed=True, undecided=True)))
    assert line.startswith("::warning title=onnxmi check%3A max-size::")
    assert "⚠️" in check_markdown(report(replace(GOOD, undecided=True)))


def test_elsewhere_nothing_is_annotated(place):
    assert "::error" not in place.run("new.onnx", "--max-size", "100B").stderr


# -- the configuration ------------------------------------------------------------------------------------------------


def configure(place, text, folder="."):
    (place.folder / folder).mkdir(exist_ok=True)
    (place.folder / folder / "onnxmi.toml").write_text(text)
    return f"{folder}/onnxmi.toml"


def test_a_file_says_what_the_command_line_does_not(place):
    path = configure(
        place,
        '[check]\nmodel = "../new.onnx"\nbaseline = "../old.onnx"\ndata = "../data.npz"\nmetric = "top2"\n'
        'output = "y:classes"\nignore-output = []\nmax-drop = 2\n'
        'max-size = "1MB"\nmax-macs = 1e6\nstrict = true\nsequence = 7\n\n[other]\nkey = 1\n',
        "sub",
    )
    assert "has no dynamic axis besides the batch" in place.refuses(2, "--config", path)
    path = configure(place, (place.folder / path).read_text().replace("sequence = 7\n", ""), "sub")
    shown = place.passes("--config", path)
    assert "top2" in shown
    assert "max-macs" in shown
    result = place.run("--config", path, "--max-size", "100B")
    assert "1 of 5 checks failed: max-size" in result.stderr, "the command line goes before the file"


@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        (3, None, "none.toml: cannot be read"),
        (3, "[check", "is not a valid TOML file"),
        (3, "max-size = 1", "no table 'max-size'; there are bench, check, prune, sweep"),
        (3, "[prune]", "has no table [check]"),
        (3, "[check]\nmax-sise = 1", "no option 'max-sise'; did you mean 'max-size'?"),
        (3, "[check]\nconfig = 'a'", "no option 'config'; there are baseline, batch"),
        (3, "[check]\nmetric = ['a']", "metric is neither"),
        (3, "[check]\noutput = [1]", "output is neither"),
        (3, "[check]\nmax-size = [1]", "max-size is neither text nor a number"),
        (3, "[check]\nmax-size = '8ms'", "onnxmi.toml: max-size: '8ms' is not a size"),
        (2, "[check]\n", "no limit is given"),
    ],
)
def test_a_file_that_is_wrong(place, code, text, message):
    path = "none.toml" if text is None else configure(place, text)
    assert message in place.refuses(code, "new.onnx", "--config", path)
