"""What the command line prints, as a text and for notebooks."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

Show = Callable[[Console], None]

_HTML_COLUMNS = 100  # characters: notebooks wrap longer lines
_PAGE = '<pre style="white-space: pre; overflow-x: auto; line-height: normal; font-family: monospace">{code}</pre>'


def as_text(show: Show) -> str:
    """Return what is shown as plain text, as wide as the terminal."""
    # In a notebook, rich would display what is printed here instead of keeping it.
    console = Console(file=io.StringIO(), force_jupyter=False, force_terminal=False, color_system=None)
    with console.capture() as capture:
        show(console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip("\n")


def as_html(show: Show) -> str:
    """Return what is shown as HTML with its colors."""
    console = Console(file=io.StringIO(), force_jupyter=False, record=True, width=_HTML_COLUMNS)
    show(console)
    return console.export_html(code_format=_PAGE, inline_styles=True)
