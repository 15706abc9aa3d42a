"""What holds for every command: it is documented, and quiet or talkative on request."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from onnxmi.cli import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GATE = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
CHECK = ("check", "new.onnx", "--max-size", "1MB")


@pytest.mark.parametrize("name", main.commands)
def test_every_command_is_in_the_readme_and_has_an_example(name):
    assert re.search(rf"onnxmi {name}\b", README)
    helped = CliRunner().invoke(main, [name, "-h"]).stdout
    assert f"    onnxmi {name} " in helped.split("Examples:")[1]


@pytest.mark.parametrize("name", ["bench", "check"])
def test_every_option_of_the_gate_is_in_its_document(name):
    spellings = [(*parameter.opts, *parameter.secondary_opts) for parameter in main.commands[name].params]
    options = [options for options in spellings if options[0].startswith("-")]
    named = set(re.findall(r"(?<![\w-])-[\w-]+", GATE))
    missing = [options for options in options if named.isdisjoint(options)]
    assert missing == [("-q", "--quiet"), ("-v", "--verbose"), ("--debug",)]


@pytest.mark.parametrize("name", main.commands)
def test_every_command_has_verbosity(name):
    options = {option for parameter in main.commands[name].params for option in parameter.opts}
    assert {"-q", "-v", "--debug"} <= options


def test_quiet_prints_nothing_but_data_and_errors(place):
    runner = CliRunner()
    done = runner.invoke(main, [*CHECK, "-q"])
    assert (done.exit_code, done.output) == (0, "")
    assert json.loads(runner.invoke(main, [*CHECK, "-q", "--json"]).stdout)["passed"]
    failed = runner.invoke(main, ["check", "new.onnx", "--max-size", "1B", "-q"])
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr.count("\n") == 1


def test_verbose_says_on_standard_error_what_is_going_on(place):
    done = CliRunner().invoke(main, [*CHECK, "-v", "--json"])
    json.loads(done.stdout)
    assert re.fullmatch(r"onnxmi: \d+\.\d s: stage 1 of 1, comparing models: 0 of 1\n", done.stderr)


def test_not_both(place):
    assert "contradict each other" in CliRunner().invoke(main, [*CHECK, "-qv"]).stderr


def test_shells_can_complete():
    done = CliRunner().invoke(main, [], prog_name="onnxmi", env={"_ONNXMI_COMPLETE": "zsh_source"})
    assert "_ONNXMI_COMPLETE=zsh_complete" in done.stdout
    words = {"_ONNXMI_COMPLETE": "zsh_complete", "COMP_WORDS": "onnxmi ch", "COMP_CWORD": "1"}
    assert "check" in CliRunner().invoke(main, [], prog_name="onnxmi", env=words).stdout


@pytest.mark.parametrize("colour", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_no_colours_where_nobody_wants_them(place, colour):
    """Standard output is a pipe here, so there are none without being asked either."""
    command = [sys.executable, "-m", "onnxmi", *CHECK]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **colour}, timeout=120)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
