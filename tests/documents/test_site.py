"""The documentation site is built, and nothing on it is broken or comes from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from onnxmi.cli import main
from tools.site import accessible, api, commands, links, nav, schemas

ROOT = Path(__file__).resolve().parents[2]


def test_every_public_name_is_on_a_page():
    assert api.missing() == set()


def test_every_command_and_option_is_on_the_page_of_commands():
    text = commands.page()
    for name, command in main.commands.items():
        section = text.split(f"## onnxmi {name}\n")[1].split("\n## ")[0]
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        assert [option for option in options if option not in section] == []
        assert "```sh\nonnxmi " in section, f"{name} has no example"


def test_every_schema_is_on_the_page_of_json():
    text = schemas.page()
    for path in (ROOT / "docs" / "schemas").glob("*.json"):
        for key in json.loads(path.read_text(encoding="utf-8"))["properties"]:
            assert f"| `{key}` |" in text


def test_every_page_is_in_the_navigation():
    listed = {page for pages in nav.NAV.values() for page in pages}
    below = ("decisions/", "gallery/")
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert {page for page in pages - listed if not page.startswith(below)} == {"index"}


def test_links_out_of_the_documents_lead_to_pages():
    text = "[a](../DESIGN.md#the-tree) [b](../onnxmi/errors.py) [c](usage.md) [d](https://x.example/y)"
    assert links.inside(text, "gate.md") == "[a](design.md#the-tree) b [c](usage.md) [d](https://x.example/y)"
    assert links.inside("[a](../../README.md)", "howto/ci.md") == "[a](../index.md)"


class Loaded(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video") or (
            tag == "link" and told.get("rel") in ("stylesheet", "preload", "icon", "preconnect")
        ):
            self.places.append(told.get("src") or told.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("sphinx", reason="Sphinx is in the extra `docs`")
    pytest.importorskip("furo", reason="furo is in the extra `docs`")
    pytest.importorskip("myst_nb", reason="myst-nb is in the extra `docs`")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "tools.site", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return folder


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        reader = Loaded()
        reader.feed(page.read_text(encoding="utf-8"))
        assert [place for place in reader.places if re.match(r"(https?:)?//", place)] == [], page.name


def test_options_on_the_site_can_be_copied(site):
    for page in (site / "reference" / "cli.html", site / "gallery" / "index.html"):
        assert "\N{EN DASH}max" not in page.read_text(encoding="utf-8")
        assert "\N{EN DASH}speedup" not in page.read_text(encoding="utf-8")


def test_what_scrolls_is_reached_by_keys_and_landmarks_have_names(tmp_path):
    page, report = tmp_path / "page.html", tmp_path / "report.html"
    built = '<aside class="sidebar-drawer"><p role="heading">Start</p></aside><pre id="a">x</pre>'
    page.write_text(built)
    report.write_text("<pre>x</pre>")
    for _ in range(2):  # a folder may be built into again
        accessible.complete(tmp_path)
    assert page.read_text() == (
        '<aside aria-label="Pages" class="sidebar-drawer"><p role="heading" aria-level="2">Start</p></aside>'
        '<pre tabindex="0" id="a">x</pre>'
    )
    assert report.read_text() == "<pre>x</pre>"
