"""Every command and snippet of the documents runs, or says why not.

A command runs in a folder with the files that it names, one page after another from the top. What a page shows of hours
of measuring, or of networks that are not in the repository, is not run: its options have to exist.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from onnxmi.cli import main
from tests.support.snippets import Snippet, snippets, snippets_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))]
STRICT = ("docs/index.md", "docs/start/", "docs/howto/", "docs/reference/")  # a command there ends with 0
TIMED = ("--speedup", "--latency", "--min-speedup", "--quantize")  # what they ask for may be out of reach here
ELSEWHERE = {
    "docs/adding_an_operator.md": "tests/operators/test_adding_an_operator.py runs it",
}
NOT_BUNDLED = re.compile(r"sst2-minilm|fashion-|\bDIR/|tuned\.onnx")
SYNOPSIS = re.compile(r"\[|MODEL\.\.\.|LIMIT|\.\.\. ")
INSTALLS = re.compile(r"(^|&& )(\.ci/|\S*pip |\S*python3? -m (venv|build|pytest))")
SETUP = re.compile(r"<!-- setup: (.+?) -->")
OPTION = re.compile(r"(?<=\s)--?[a-zA-Z][\w-]*")


def blocks_of(page: str) -> list[Snippet]:
    return snippets_of(ROOT, [page])


def why_not(block: Snippet, command: str = "") -> str:
    """Say why a block, or a command of it, is not run; "" if it is."""
    if block.skip:
        return block.skip
    elsewhere = ELSEWHERE.get(block.page) or ELSEWHERE.get(block.place)
    if elsewhere:
        return elsewhere
    if block.language == "python":
        missing = [name for name in imported(block.text) if importlib.util.find_spec(name) is None]
        return f"{missing[0]} is not installed" if missing else ""
    if command.startswith("python tools/"):
        return "a measurement of minutes to hours; its options exist"
    if INSTALLS.search(command):
        return "it installs or runs the tests; tests/release does that"
    if NOT_BUNDLED.search(command):
        return "it names a network that is not in the repository; its options exist"
    return "it shows the form of a command; its options exist" if SYNOPSIS.search(command) else ""


def imported(code: str) -> list[str]:
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [name.partition(".")[0] for name in names]


def all_parts() -> list[tuple[Snippet, str]]:
    """Every block of code, and for blocks of commands each command."""
    found: list[tuple[Snippet, str]] = []
    for block in (block for page in PAGES for block in blocks_of(page)):
        if block.language == "sh":
            found += [(block, command) for command in block.commands]
        elif block.language not in ("", "text"):
            found.append((block, ""))
    return found


PARTS = all_parts()


@pytest.mark.parametrize("page", dict.fromkeys(block.page for block, _ in PARTS))
def test_what_the_page_says_works(page, place):
    text = (ROOT / page).read_text(encoding="utf-8")
    setup = "\n".join(SETUP.findall(text))
    for block in blocks_of(page):
        RUNNERS.get(block.language, ignored)(block, setup)


def run_shell(block: Snippet, _setup: str) -> None:
    for command in block.commands:
        if not why_not(block, command):
            run_command(block, command)


def run_command(block: Snippet, command: str) -> None:
    words = shlex.split(command, comments=True)
    target = words[words.index(">") + 1] if ">" in words else None
    words = words[: words.index(">")] if ">" in words else words
    assert words[0] in ("onnxmi", "eval"), f"{block.place}: {command}: say why it is not run: <!-- skip: ... -->"
    if words[0] == "eval":
        subprocess.run(["bash", "-c", command], check=True, env=with_path(), timeout=60)
        return
    result = CliRunner().invoke(main, [*words[1:], *made_quick(words)])
    allowed = {0} if block.page.startswith(STRICT) and not set(words) & set(TIMED) else {0, 1}
    assert result.exit_code in allowed, f"{block.place}: {command}\n{result.output}"
    if target is not None:
        Path(target).write_text(result.stdout, encoding="utf-8")


def made_quick(words: list[str]) -> list[str]:
    """Return what a run takes beside what is written: one thread, results that earlier blocks wrote replaced."""
    known = options_of(words[1])
    pairs = (("--threads", "1"), ("--overwrite",), ("--seconds", "0.5"))
    return [word for pair in pairs if pair[0] in known and pair[0] not in words for word in pair]


def options_of(command: str) -> set[str]:
    parameters = main.commands[command].params
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}


def run_python(block: Snippet, setup: str) -> None:
    if why_not(block):
        return
    code = f"{setup}\n{block.text}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=with_path())
    assert done.returncode == 0, f"{block.place}\n{done.stdout}{done.stderr}"


def with_path() -> dict[str, str]:
    """The environment with the commands of this one first."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {**os.environ, "PATH": os.pathsep.join(folders), "PYTHONPATH": str(ROOT)}


def write_toml(block: Snippet, _setup: str) -> None:
    tomllib.loads(block.text)
    Path("onnxmi.toml").write_text(block.text, encoding="utf-8")


def read_yaml(block: Snippet, _setup: str) -> None:
    if importlib.util.find_spec("yaml") is not None:
        import yaml

        assert yaml.safe_load(block.text), block.place


def read_json(block: Snippet, _setup: str) -> None:
    json.loads(block.text)


def ignored(_block: Snippet, _setup: str) -> None:
    """Output, formulas and drawings."""


RUNNERS = {
    "sh": run_shell,
    "python": run_python,
    "toml": write_toml,
    "yaml": read_yaml,
    "json": read_json,
}


def test_every_kind_of_block_is_known():
    kinds = {block.language for block, _ in PARTS}
    assert kinds <= {*RUNNERS, "mermaid"}


@pytest.mark.parametrize(("block", "command"), PARTS, ids=lambda part: part if isinstance(part, str) else part.place)
def test_what_is_not_run_has_options_that_exist(block, command):
    reason = why_not(block, command)
    if not reason or block.language != "sh":
        return
    words = command.split()
    if words[0] == "onnxmi":
        known = options_of(words[1])
        assert set(OPTION.findall(command)) <= known
    elif command.startswith("python tools/"):
        source = (ROOT / words[1]).read_text(encoding="utf-8") + tools_text()
        own = command.split(" -- ")[0]
        assert [option for option in OPTION.findall(own) if f'"{option}"' not in source] == []


def tools_text() -> str:
    """The sources that a tool may take its options from: those of the folders of tools."""
    return "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tools").rglob("*.py"))


def test_most_of_it_is_run():
    reasons = [why_not(block, command) for block, command in PARTS]
    assert sum(not reason for reason in reasons) >= 80


def test_blocks_are_told_apart():
    commands = "a\n\n    onnxmi prune A B   why\n\n<!-- skip: no network -->\n\n"
    page = commands + "```sh\nonnxmi x \\\n  y  # z\n```\n\n    none\n"
    first, second, third = snippets(page, "p.md")
    assert (first.language, first.commands, first.skip) == ("sh", ["onnxmi prune A B"], "")
    assert (second.language, second.skip, second.line) == ("sh", "no network", 7)
    assert (third.language, third.skip) == ("", "")
