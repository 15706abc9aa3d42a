"""The order of the site's pages."""

from __future__ import annotations

from pathlib import Path

NAV: dict[str, tuple[str, ...]] = {
    "Start": ("start/install", "start/first-model", "start/python"),
    "How-to": (
        *("howto/index", "howto/feeds", "howto/images", "howto/texts", "howto/detectors", "howto/decoders"),
        *("howto/int8", "howto/ci", "howto/cluster", "howto/docker", "howto/olive", "howto/optimum", "finetune"),
        "howto/bugs",
    ),
    "Examples": ("notebooks/cnn", "notebooks/text_encoder", "notebooks/detector", "examples", "gallery/index"),
    "Reference": (
        *("reference/index", "reference/cli", "usage", "gate", "quantize", "report", "outputs"),
        *("reference/api/functions", "reference/api/results", "reference/api/options", "reference/api/models"),
        *("reference/api/errors", "reference/json", "reference/plan", "reference/exit-codes", "operators", "models"),
        *("reference/compatibility", "reference/deprecation", "glossary", "changelog"),
    ),
    "Explanation": ("explanation/method", "claims", "benchmarks", "coverage", "scale", "trust", "security"),
    "Project": ("design", "contributing", "adding_an_operator", "conduct", "decisions/README"),
}


def contents() -> str:
    """Return the directives that put the pages in order, for the end of the first page."""
    return "\n".join(_tree(pages, caption) for caption, pages in NAV.items())


def beneath(docs: Path) -> dict[str, str]:
    """Return the directives that put pages below another one: {page: directive}."""
    return {
        "decisions/README.md": _tree(sorted(path.stem for path in (docs / "decisions").glob("[0-9]*.md"))),
        "gallery/index.md": _tree(
            sorted(path.stem for path in (docs / "gallery").glob("*.md") if path.stem != "index")
        ),
    }


def _tree(pages: tuple[str, ...] | list[str], caption: str = "") -> str:
    lines = ["", "```{toctree}", ":hidden:", ":maxdepth: 1", *([f":caption: {caption}"] if caption else []), ""]
    return "\n".join([*lines, *pages, "```", ""])
