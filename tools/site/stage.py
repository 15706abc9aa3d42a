"""Put the pages of docs/, and those that are made, into one folder for Sphinx."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tools.site import api, commands, links, nav, schemas

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_LEXERS = {"mermaid": "text"}  # of fenced blocks that the site shows as they are


def makers() -> dict[str, object]:
    """Return what makes the pages that are no files of docs/, by name."""
    root = {page: lambda source=source: links.root_page(source) for page, source in links.ROOT_PAGES.items()}
    return {"reference/cli.md": commands.page, "reference/json.md": schemas.page, **api.makers(), **root}


def stage(folder: Path) -> None:
    """Write all pages, with links between them, into an empty folder."""
    shutil.copytree(DOCS, folder, dirs_exist_ok=True)
    for name, make in makers().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(make(), encoding="utf-8")
    below = {**nav.beneath(DOCS), "index.md": nav.contents()}
    for path in folder.rglob("*.md"):
        name = path.relative_to(folder).as_posix()
        text = links.inside(path.read_text(encoding="utf-8"), name) + below.get(name, "")
        path.write_text(re.sub(r"^```(\w+)$", _fence, text, flags=re.MULTILINE), encoding="utf-8")


def _fence(match: re.Match[str]) -> str:
    return f"```{_LEXERS.get(match[1], match[1])}"
