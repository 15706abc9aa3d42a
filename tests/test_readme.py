"""What the README tells people to type works, and prints what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from onnxmi.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def labels(text: str) -> list[str]:
    """What stays the same from run to run of the end of the screen: the commands, and what each line is about."""
    lines = text.partition("Result\n")[2].splitlines()
    return [line if line.startswith("  onnxmi") else line.split()[0] for line in lines if re.match(r"  \S", line)]


def test_the_first_command_ends_with_what_is_pasted_below_it(tmp_path, monkeypatch):
    command = next(line for line in README.splitlines() if "onnxmi prune models/" in line).split(" && ")[-1]
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(main, [*shlex.split(command)[1:], "--threads", "1"])
    assert result.exit_code == 0
    assert labels(result.stdout) == labels(README.split("```")[1]) != []


def test_the_test_command_is_the_one_that_is_checked():
    command = next(line.strip() for line in README.splitlines() if line.endswith("pytest -n 2"))
    assert (
        command == "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest -n 2"
    )
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_option_it_names_exists_and_none_is_undocumented():
    prune = main.commands["prune"]
    options = {option for parameter in prune.params for option in (*parameter.opts, *parameter.secondary_opts)}
    tables = [
        README.split("## Use it")[1].split("**Samples.**")[0],
        USAGE.split("## Options")[1].split("## Budgets")[0],
    ]
    named = [
        option for table in tables for line in table.splitlines() if line[:1] == "|" for option in OPTION.findall(line)
    ]
    assert set(named) <= options
    helped = CliRunner().invoke(main, ["prune", "-h"]).stdout
    assert all(option in helped for option in options if option.startswith("--"))


def test_the_usage_page_has_every_option_of_prune():
    named = set(OPTION.findall(USAGE)) | {"--help"}
    spellings = [(*parameter.opts, *parameter.secondary_opts) for parameter in main.commands["prune"].params]
    assert not [options for options in spellings if options[0].startswith("-") and not named.intersection(options)]


def test_every_exit_code_is_explained():
    codes = README.split("**Exit codes.**")[1].split("\n\n")[0]
    assert re.findall(r"(?:^|; )\s*(\d+) ", " ".join(codes.split())) == ["0", "1", "2", "3", "4", "130"]


def test_it_is_short():
    assert len(README.splitlines()) < 120
