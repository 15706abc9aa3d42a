"""The option `--report` of commands that only measure: a page of what they print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from onnxmi.api.targets import check_page
from onnxmi.model.save import write_atomically
from onnxmi.reporting import html

PAGE = click.option("--report", "page", type=click.Path(path_type=Path), help="Also write an HTML page.")


def check_page_option(page: Path | None, *others: Path | None) -> None:
    """Refuse before the work a page that cannot be made or written, or that is an input."""
    if page is not None:
        html.require_extra()
        check_page(page, *(path for path in others if path is not None))


def write_page(page: Path | None, data: Mapping[str, Any]) -> None:
    """Write the page of what was measured, if one is asked for."""
    if page is not None:
        write_atomically(page, html.render(data, "this run"))
