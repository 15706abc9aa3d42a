"""A run as one HTML page that needs nothing else. The only package that knows jinja2 and matplotlib.

Both are an extra, and slow to load: so they are looked for before the long work, and loaded when a page is made.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from onnxmi.errors import UsageError

_NEEDED = ("jinja2", "matplotlib")


def require_extra() -> None:
    """Raise UsageError if what makes pages is not installed."""
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        raise UsageError(f"a report needs {' and '.join(lacking)}: install it with `pip install 'onnxmi[report]'`")


def render(result: Mapping[str, Any], where: str, sweep: tuple[Mapping[str, Any], str] | None = None) -> bytes:
    """Return the page of a run; see `onnxmi.reporting.html.page.render`."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # on its first run it tells that it looks for fonts
    try:
        made: bytes = import_module("onnxmi.reporting.html.page").render(result, where, sweep)
    finally:
        logger.setLevel(level)
    return made
