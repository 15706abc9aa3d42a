"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from onnxmi.cli import main

_EXAMPLES = re.compile(r"Examples:\n((?:  .+\n)+)")


def page() -> str:
    """Return the reference of all commands as Markdown."""
    lines = [
        "# Command line",
        "",
        "Made from the commands themselves when the site is built. `onnxmi COMMAND -h` prints the same.",
        "Options are grouped and explained in [Usage](../usage.md). Every command ends with one of the",
        "[exit codes](exit-codes.md), and `--json` prints what [JSON](json.md) describes.",
        "",
    ]
    for name in main.commands:
        lines += _command(name, main.commands[name])
    return "\n".join(lines) + "\n"


def _command(name: str, command: click.Command) -> Iterator[str]:
    # Settings are the group's: click remembers a command's help option as it is first asked for it.
    group = click.Context(main, info_name="onnxmi", **main.context_settings)
    context = click.Context(command, info_name=name, parent=group)
    yield from (f"## onnxmi {name}", "")
    yield from (*_paragraphs(command.help or ""), "")
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("```text", f"onnxmi {name} {usage}", "```", "")
    yield from ("| option | what it does |", "| --- | --- |")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:  # what an argument is, the paragraphs above say
            yield f"| {_code(record[0])} | {_cell(record[1])} |"
    yield ""
    examples = _EXAMPLES.search(command.epilog or "")
    if examples:
        yield from ("```sh", *(line.strip() for line in examples[1].splitlines()), "```", "")


def _paragraphs(text: str) -> list[str]:
    """Return a help text; click ends what `-h` shows of it at a form feed, and writes lines after a \\b as they are."""
    return [_escaped(line.strip()) for line in text.split("\f")[0].replace("\b", "").splitlines()]


def _escaped(text: str) -> str:
    parts = text.split("`")
    return "`".join(re.sub(r"([*_<\[])", r"\\\1", part) if place % 2 == 0 else part for place, part in enumerate(parts))


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|")
