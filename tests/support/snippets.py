"""Code blocks of the documents: where they are, what they are, and why one is not run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w{}-]*)\s*$")
SKIP = re.compile(r"<!-- skip: (.+?) -->")
# What an indented block begins with, if it is commands and not output or a formula.
COMMANDS = ("onnxmi ", "python ", "python3 ", "pip ", "docker ", "eval ", ".ci/", ".venv/", "git ")
_DESCRIPTION = re.compile(r" {3,}\S.*$")  # of a command, beside it


@dataclass(frozen=True)
class Snippet:
    """A code block.

    Attributes
    ----------
    page : str
        Its document.
    line : int
        Where it begins.
    language : str
        As the fence says; "sh" for indented commands, "" for what is no code.
    text : str
        Without fences and indents.
    skip : str
        Why it is not run; "" if it is.
    """

    page: str
    line: int
    language: str
    text: str
    skip: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, without the descriptions beside them."""
        joined = self.text.replace("\\\n", " ")
        lines = (_DESCRIPTION.sub("", line).strip() for line in joined.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def snippets(text: str, page: str) -> Iterator[Snippet]:
    """Yield the code blocks of a page, in order."""
    lines = text.splitlines()
    at, reason = 0, ""
    while at < len(lines):
        fence = FENCE.match(lines[at])
        indented = lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip())
        if fence:
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == "```")
            indent = len(fence["indent"])
            body = "\n".join(line[indent:] for line in lines[at + 1 : end])
            yield Snippet(page, at + 1, fence["language"], body, reason)
        elif indented:
            end = next((n for n in range(at, len(lines)) if lines[n][:4].strip()), len(lines)) - 1
            body = "\n".join(line[4:] for line in lines[at : end + 1]).rstrip()
            yield Snippet(page, at + 1, "sh" if body.startswith(COMMANDS) else "", body, reason)
        else:
            told = SKIP.fullmatch(lines[at].strip())
            reason = told[1] if told else reason if not lines[at].strip() else ""
            at += 1
            continue
        at, reason = end + 1, ""


def snippets_of(root: Path, pages: list[str]) -> list[Snippet]:
    """Return the code blocks of documents."""
    return [one for page in pages for one in snippets((root / page).read_text(encoding="utf-8"), page)]
