"""What the theme leaves out for keyboards and screen readers, written into the pages that were built."""

from __future__ import annotations

import re
from pathlib import Path

_ADDITIONS = (
    (re.compile(r'role="heading"(?! aria-level)'), 'role="heading" aria-level="2"'),
    (re.compile(r'<aside class="sidebar-drawer"'), '<aside aria-label="Pages" class="sidebar-drawer"'),
    (re.compile(r'<aside class="toc-drawer"'), '<aside aria-label="On this page" class="toc-drawer"'),
    # What is wider than a phone scrolls; the arrow keys reach only what can be focused.
    (re.compile(r"<pre(?! tabindex)"), '<pre tabindex="0"'),
    (
        re.compile(r'<div class="table-wrapper'),
        '<div tabindex="0" class="table-wrapper',
    ),
)


def complete(folder: Path) -> None:
    """Add them to all pages of a folder, reports apart, which are whole."""
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if 'class="sidebar-drawer"' in text:
            for pattern, replacement in _ADDITIONS:
                text = pattern.sub(replacement, text)
            path.write_text(text, encoding="utf-8")
