"""The page: whole in itself, readable without eyes, harmless whatever names say, and the same bytes each time."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from onnxmi.errors import DataError
from onnxmi.reporting.html import render

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onload=x </title></style></svg>{{ 7*7 }}$\\frac{1}$"
UNSEEN = "a\x00b\x1b[31mc\u202ed\ne\ud800f"


@pytest.fixture(scope="module")
def made(example, read):
    run, sweep = example
    return read(render(run, "run.json", (sweep, "sweep.json")))


# -- whole in itself --------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_anywhere(made):
    assert not made.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image"}
    assert not set(made.values("src") + made.values("srcset") + made.values("xlink:href"))
    assert all(target.startswith("#") for target in made.values("href"))
    assert all(found == "#" for found in re.findall(r"url\((.)", made.source))
    assert "http:" not in made.source
    assert "https:" not in made.source
    assert "@import" not in made.source
    assert "default-src 'none'" in made.source


def test_every_reference_leads_to_one_place(made):
    identifiers = made.values("id")
    assert len(set(identifiers)) == len(identifiers)
    links = [target.removeprefix("#") for target in made.values("href")]
    clips = re.findall(r"url\(#([^)]+)\)", made.source)
    labels = [name for names in made.values("aria-labelledby") for name in names.split()]
    assert links
    assert clips
    assert labels
    assert {*links, *clips, *labels} <= set(identifiers)


def test_what_matters_comes_first_and_the_rest_is_folded(made):
    assert [attributes["id"] for attributes in made.all("section")] == ["trade-off", "network", "details"]
    folded = [attributes.get("id") for attributes in made.all("details") if "id" in attributes]
    assert folded == ["summary", "layers", "information", "repair", "alone", "checks", "made"]
    assert not [attributes for attributes in made.all("details") if "id" in attributes and "open" in attributes]


def test_every_mark_says_its_numbers_to_a_pointer(made):
    tips = [text for tag, text in made.texts if tag == "title"]
    assert "this result, 2.00\N{MULTIPLICATION SIGN} as fast: 2.0 points lost on 127 samples" in tips
    assert "conv1: 5 of 17 channels" in tips
    assert len([attributes for attributes in made.all("g") if attributes.get("class") == "tip"]) >= 4


# -- readable ---------------------------------------------------------------------------------------------------------


def test_every_drawing_has_a_name_a_description_and_a_table(made):
    drawings = made.all("svg")
    assert len(drawings) >= 7
    assert {drawing["role"] for drawing in drawings} == {"img"}
    parts = {attributes["id"]: tag for tag, attributes in made.elements if "id" in attributes}
    for drawing in drawings:
        assert [parts[name] for name in drawing["aria-labelledby"].split()] == ["title", "desc"]
    named = {drawing["aria-labelledby"].split()[0] for drawing in drawings}
    names = [attributes["id"] for attributes in made.all("title") if "id" in attributes]
    told = [text for tag, text in made.texts if tag == "desc"]
    assert len(told) == len(drawings) == len(names)
    assert set(names) == named
    assert len(made.all("caption")) == 5  # before and after, trade-off, layers, information, repair


def test_drawings_take_colours_and_fonts_from_the_page(made):
    styles = " ".join(attributes["style"] or "" for _, attributes in made.elements if "style" in attributes)
    assert not re.search(r"#[0-9a-f]{6}", styles)
    assert "font-family" not in styles
    defined = set(re.findall(r"(--[a-z]+):", made.source))
    assert set(re.findall(r"var\((--[a-z]+)\)", made.source)) <= defined


def test_headings_descend_by_one(made):
    levels = [int(tag[1]) for tag, _ in made.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_every_heading_of_a_table_says_what_it_heads(made):
    assert {attributes.get("scope") for attributes in made.all("th")} == {"col", "row"}


TEXTS = ("ink", "faint", "kept", "good", "bad", "warn", "accent")


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_stand_out_in_light_in_dark_and_in_print(made):
    """By WCAG 2.1 AA: 4.5 for text, 3 for what is drawn."""
    themes = re.findall(r":root \{(.*?)\}", made.source, re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", theme))

        def contrast(one: str, other: str, colours: dict[str, str] = colours) -> float:
            low, high = sorted((luminance(colours[one]), luminance(colours[other])))
            return (high + 0.05) / (low + 0.05)

        for ground in ("page", "card"):
            assert (
                min(contrast(text, ground) for text in ("ink", "faint", "kept", "good", "bad", "warn", "accent")) >= 4.5
            )
        assert min(contrast("kept", "card"), contrast("cut", "card"), contrast("kept", "cut")) >= 3


# -- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "2.00\N{MULTIPLICATION SIGN} faster, 70% smaller, 2.0 points less accurate",
        "25% of the parameters left", "92.0% \N{RIGHTWARDS ARROW} 90.0%", "0.400 ms \N{RIGHTWARDS ARROW} 0.200 ms",
        "The file is valid: all 1 checks passed.", "on 127 samples",
        "onnxmi prune model.onnx calib.npz -o small.onnx", "ab" * 32, "cd" * 32, "9.8.7", "joint",
        "asked macs: 0.4 reached macs: 0.35",
        "an output of the model", "embedding", "stem", "channels kept whole",
        "the plain cut was better", "measured on 900 samples", "finite outputs",
    ],
)  # fmt: skip
def test_what_a_run_found_is_on_the_page(made, said):
    assert said in made.text


def test_a_check_that_failed_is_said_at_the_top(run, read):
    run["checks"].append({"name": "fits", "passed": False, "detail": "it does not"})
    text = read(render(run, "run.json")).text
    assert "1 of 2 checks failed (fits)." in text
    assert "check passed" not in text


def widths(source: str, colour: str) -> list[float]:
    """Widths of the filled boxes of a colour."""
    boxes = re.findall(rf'<path d="M ([0-9.]+) \S+ L ([0-9.]+) [^"]*"[^>]*style="fill: var\({colour}\)"', source)
    return [float(right) - float(left) for left, right in boxes]


def test_bars_are_as_long_as_what_they_stand_for(made):
    drawing = made.source.split('aria-labelledby="layers0-title')[1].split("</svg>")[0]
    full, kept = widths(drawing, "--cut"), widths(drawing, "--kept")
    assert full == pytest.approx([376 / 2, 376, 376])  # each kind at its own scale
    assert [k / f for k, f in zip(kept, full, strict=True)] == pytest.approx([5 / 17, 1 / 2, 3 / 4], abs=1e-4)


def test_curves_add_up_what_each_unit_added(made):
    told = next(text for tag, text in made.texts if tag == "desc" and "nats" in text)
    assert "conv1: 6.75 nats with 5 units; conv2: 17.00 nats with 17 units." in told
    cells = [text for tag, text in made.texts if tag in ("td", "th")]
    row = cells[cells.index("units ranked") + 7 :][:6]
    assert row == ["5", "3.000", "5.000", "6.750", "3.000", "0.250"]


def test_other_scores_are_not_called_nats(run, read):
    run["options"]["score"] = "magnitude"
    text = read(render(run, "run.json")).text
    assert "nats" not in text
    assert "sum of the scores" in text


# -- many and long ----------------------------------------------------------------------------------------------------


def many(run: dict[str, Any], count: int) -> dict[str, Any]:
    layer = run["layers"][0]
    return {**run, "layers": [{**layer, "name": f"layer{place}", "before": 40 + place} for place in range(count)]}


@pytest.mark.parametrize("count", [1, 5, 6, 7, 33])
def test_every_layer_is_drawn_and_listed_once(run, read, count):
    made = read(render(many(run, count), "run.json"))
    bars = " ".join(text for tag, text in made.texts if tag == "desc" and text.startswith("Kept: "))
    rows = [text for tag, text in made.texts if tag == "th"]
    for place in range(count):
        assert len(re.findall(rf"\blayer{place}:", bars)) == 1
        assert rows.count(f"layer{place}") == 2  # layers, information


def test_of_many_layers_an_overview_comes_first(run, read):
    made = read(render(many(run, 101), "run.json"))
    assert "101 layers with 40 to 140 units, of which 3.6% to 12% stay; 505 of 9,090 in all." in made.text
    assert "53 smaller ones are in the table only" in made.text
    assert made.source.index("widths-title") < made.source.index("Every layer by name") < made.source.index("layers0-")


def test_long_names_are_shortened_in_the_middle(run, read):
    run["layers"][0]["name"] = "start" + "x" * 100_000 + "end"
    text = read(render(run, "run.json")).text
    assert max(map(len, re.findall("[xstarend…]+", text))) == 200
    assert "startx" in text
    assert "xxend" in text


def test_a_long_curve_is_drawn_with_few_points(run):
    run["layers"][0] |= {"before": 50_000, "after": 30_000, "gains": [1 / (1 + k) for k in range(30_000)]}
    assert len(render(run, "run.json")) < 400_000


# -- harmless ---------------------------------------------------------------------------------------------------------


def poisoned(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {key: poisoned(entry, text) for key, entry in value.items()}
    if isinstance(value, list):
        return [poisoned(entry, text) for entry in value]
    return text if isinstance(value, str) else value


def test_names_that_are_markup_stay_names(run, sweep, read, made):
    hostile = poisoned(run, HOSTILE)
    hostile["versions"] = {HOSTILE: HOSTILE}
    found = read(render(hostile, "run.json", (poisoned(sweep, HOSTILE), "sweep.json")))
    assert found.tags <= made.tags
    assert not {key for _, attributes in found.elements for key in attributes if key.startswith("on")}
    assert "7*7" in found.text
    assert " 49 " not in found.text
    assert found.text.count("<script>alert(1)</script>") > 20


def test_what_cannot_be_seen_is_escaped(run, sweep):
    source = render(poisoned(run, UNSEEN), "run.json", (poisoned(sweep, UNSEEN), "sweep.json")).decode()
    assert not [character for character in source if not character.isprintable() and character not in "\n\N{NBSP}"]
    assert r"a\x00b\x1b[31mc\u202ed\ne\ud800f" in source


OPTIONAL = {
    "budget", "checks", "command", "frozen", "kept_whole", "latency_ms", "left_out", "model", "notes", "options",
    "output", "plan", "plan_sha256", "quality", "repair", "trials", "versions",
}  # fmt: skip


# -- less than all ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(OPTIONAL))
def test_what_is_missing_is_left_out(run, read, key):
    del run[key]
    made = read(render(run, "run.json"))
    assert not re.search(r"\b(None|null|nan|undefined)\b", made.text)
    assert {"#" + name for name in made.values("id")} >= set(made.values("href"))


def test_what_is_null_is_missing(run):
    kept = ("layers", "before", "after")
    bare = {key: run[key] for key in kept}
    assert render({**dict.fromkeys(run), **bare}, "run.json") == render(bare, "run.json")


def test_a_run_of_which_little_is_known_makes_a_page(read):
    made = read(render({"layers": [{"before": 3, "after": 1}], "before": {}, "after": {}}, "run.json"))
    assert "1 layer was cut." in made.text


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and "score" in value:
        return [path]  # options: a plan may say anything there
    if isinstance(value, dict) and "asked" in value:
        return [path]
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [path, *(leaf for key, entry in pairs for leaf in leaves(entry, (*path, key)))]
    return [path]


def test_another_type_is_an_error_that_says_where(run):
    ignored = {"ridge", "versions"}
    paths = [path for path in leaves(run) if path and not ignored & set(path)]
    assert len(paths) > 60
    for path in paths:
        broken = json.loads(json.dumps(run))
        inner = broken
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = 7 if isinstance(inner[path[-1]], dict | list | str | bool) else {"seven": 7}
        if path[0] == "trials" and path[-1] in ("share",):
            continue  # a label
        with pytest.raises(DataError, match=r"^run\.json: ") as found:
            render(broken, "run.json")
        last = next(key for key in reversed(path) if isinstance(key, str))
        assert repr(last) in str(found.value) or last in str(found.value), path


@pytest.mark.parametrize("size", [1e300, -(10**400), float("nan"), float("inf"), True, "5"])
def test_numbers_that_are_none_are_refused(run, size):
    run["before"]["macs"] = size
    with pytest.raises(DataError, match="'macs' is not a number"):
        render(run, "run.json")


@pytest.mark.parametrize(("before", "after"), [(0, 0), (-3, -4), (5, 6)])
def test_a_layer_that_grew_is_refused(run, before, after):
    run["layers"][1] |= {"before": before, "after": after}
    with pytest.raises(DataError, match=r"layers\[1\]: has no sizes, or is larger after"):
        render(run, "run.json")


@pytest.mark.parametrize("other", [{}, {"layers": []}, {"before": {}, "after": {}}, {"points": 3}])
def test_something_else_is_refused(other):
    with pytest.raises(DataError, match="is not what `onnxmi prune --json` prints"):
        render(other, "other.json")


# -- the same bytes ---------------------------------------------------------------------------------------------------


def test_same_input_same_bytes(run, sweep):
    once = render(run, "run.json", (sweep, "sweep.json"))
    assert render(run, "run.json", (sweep, "sweep.json")) == once


def test_settings_of_the_user_change_nothing_and_stay(run):
    once = render(run, "run.json")
    with matplotlib.rc_context({"axes.labelsize": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert render(run, "run.json") == once
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_same_bytes_in_another_process(run, tmp_path):
    program = (
        "import json, sys; from onnxmi.reporting.html import render; "
        "sys.stdout.buffer.write(render(json.load(sys.stdin), 'r'))"
    )
    pages = [
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(run).encode(),
            env={**os.environ, "PYTHONHASHSEED": seed, "MPLCONFIGDIR": str(tmp_path / seed)},
            capture_output=True,
            check=True,
            timeout=120,
        )
        for seed in ("1", "2")
    ]
    assert pages[0].stdout == pages[1].stdout == render(run, "r")
    assert pages[0].stderr == b""  # not even that matplotlib looks for fonts


def test_templates_are_part_of_the_package():
    setup = (Path(__file__).resolve().parents[2] / "setup.py").read_text(encoding="utf-8")
    assert '"onnxmi.reporting.html": ["templates/*"]' in setup


# -- samples whose answer changed -------------------------------------------------------------------------------------


def test_a_sample_with_another_answer_shows_its_text_as_text(example, read):
    run = copy.deepcopy(example[0])
    run["changed_answers"] = [{"sample": 7, "before": 1, "after": 0, "label": 1, "image": None, "caption": HOSTILE}]
    page = read(render(run, "run.json"))
    section = page.source.split('id="changed"')[1].split("</section>")[0]
    assert "&lt;script&gt;alert(1)" in section
    assert "1 → 0" in section
    assert not page.tags & {"script", "img", "iframe"}
