"""Pages in a real browser: nothing overflows, nothing is loaded, and axe-core finds no barrier. Skipped without one."""

from __future__ import annotations

import copy
import re
import shutil
from typing import Any

import pytest

from onnxmi.reporting.html.page import render

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra `browser`")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at pages with")

CHECK: dict[str, Any] = {
    "model": "small.onnx",
    "baseline": "model.onnx",
    "passed": False,
    "checks": [
        {"name": "max-size", "passed": False, "asked": "at most 10.0 kB", "measured": "63.0 kB", "detail": ""},
        {"name": "max-drop", "passed": True, "undecided": True, "asked": "at most 0.01", "measured": "0.002"},
    ],
    "notes": ["timed in 41 runs"],
}


def timed(name: str, ms: float) -> dict[str, Any]:
    time = {"median_ms": ms, "median_low_ms": 0.9 * ms, "median_high_ms": 1.1 * ms}
    speed = {"speedup": 0.4 / ms, "speedup_low": 0.3 / ms, "speedup_high": 0.5 / ms}
    return {"model": name, "threads": 1, "batch": 1, **time, **speed}


BENCH: dict[str, Any] = {
    "models": [{"name": name, "size": size, "parameters": size // 4} for name, size in (("model", 4400), ("b", 1320))],
    "rows": [timed("model", 0.4), timed("b", 0.2)],
}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=["run", "sweep", "check", "bench"])
def page_file(request, tmp_path_factory, example):
    run, sweep = example
    data = {"run": run, "sweep": sweep, "check": CHECK, "bench": BENCH}[request.param]
    path = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    path.write_bytes(render(data, "data.json"))
    return path


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1280, "dark"), (1280, "light")])
def test_a_page_fits_loads_nothing_and_has_no_barrier(browser, page_file, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is in the extra `browser`")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(folded => folded.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert [url for url in loaded if not url.startswith(("file:", "data:"))] == []
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
    page.close()


def test_a_page_as_it_opens_prints_on_one_sheet(browser, tmp_path, example):
    """With twelve changed answers and three outputs, as a run has that its owner wants to show."""
    run = copy.deepcopy(example[0])
    pixel = "data:image/png;base64," + (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    )
    changed = {"before": 1, "after": 2, "label": 1, "image": pixel}
    run["changed_answers"] = [{"sample": number, **changed} for number in range(12)]
    run["outputs"] = (run.get("outputs") or [])[:1] * 3
    path = tmp_path / "run.html"
    path.write_bytes(render(run, "run.json"))
    page = browser.new_page()
    page.goto(path.as_uri())
    sheets = re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))
    page.close()
    assert len(sheets) == 1
