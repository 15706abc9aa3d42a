"""Links between files of the repository, as links between pages of the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pages of the site that are files outside docs/.
ROOT_PAGES = {
    "changelog.md": "CHANGELOG.md",
    "conduct.md": "CODE_OF_CONDUCT.md",
    "contributing.md": "CONTRIBUTING.md",
    "design.md": "DESIGN.md",
    "examples.md": "examples/README.md",
    "models.md": "models/README.md",
    "security.md": "SECURITY.md",
}
_PAGE_OF = {source: page for page, source in ROOT_PAGES.items()}
_PAGE_OF["README.md"] = "index.md"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def root_page(source: str) -> str:
    """Return a file of the root as a page: what it links to is named as seen from docs/."""
    here = posixpath.dirname(source)

    def as_seen_from_docs(match: re.Match[str]) -> str:
        text, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        return f"[{text}]({posixpath.relpath(posixpath.normpath(posixpath.join(here, target)), 'docs')})"

    return _LINK.sub(as_seen_from_docs, (ROOT / source).read_text(encoding="utf-8"))


def inside(markdown: str, page: str) -> str:
    """Return a page whose links out of docs/ lead to pages; those that lead to no page are their text."""
    folder = posixpath.dirname(page)

    def to_a_page(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, mark, anchor = target.partition("#")
        outside = posixpath.normpath(posixpath.join("docs", folder, path))
        if "://" in target or not path or outside.startswith("docs/"):
            return match[0]
        if outside not in _PAGE_OF:
            return text
        return f"[{text}]({posixpath.relpath(_PAGE_OF[outside], folder or '.')}{mark}{anchor})"

    return _LINK.sub(to_a_page, markdown)
