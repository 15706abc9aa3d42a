"""The pages of the gallery, from what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.exhibits import quality
from tools.exhibits.entries import ENTRIES, Entry

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "gallery"
RESULTS = FOLDER / "results.json"
NOT_RUN = "not measured yet"
_HEAD = """# Gallery

Models that people ship, and some that are made here, pruned as their owners could. Each page has the commands, what
was measured before and after, the report page, and what to watch out for. Models are fetched by the name and version of
the package that has them; none but the first is in this repository. `python tools/gallery.py` makes these pages:

<!-- skip: it fetches packages and takes minutes to hours -->

```sh
python tools/gallery.py --at FOLDER               # all of them
python tools/gallery.py --at FOLDER voice angle   # some
```

| model | options | file | faster | on inputs that nothing was fitted to |
| --- | --- | --- | --- | --- |
"""


def read_results() -> dict[str, Any]:
    """Return what was measured: {name: {machine, bytes, runs}}."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return found


def write_all() -> None:
    """Write the table and a page a model."""
    results = read_results()
    rows = [row for entry in ENTRIES.values() for row in _rows(entry, results.get(entry.name))]
    (FOLDER / "index.md").write_text(_HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    for entry in ENTRIES.values():
        text = "\n".join(_page(entry, results.get(entry.name))) + "\n"
        (FOLDER / f"{entry.name}.md").write_text(text, encoding="utf-8")


def _rows(entry: Entry, result: dict[str, Any] | None) -> Iterator[str]:
    link = f"[{entry.title}]({entry.name}.md)"
    if result is None:
        yield f"| {link} | | | | {NOT_RUN} |"
        return
    for number, (words, run) in enumerate(zip(entry.arms, result["runs"], strict=True)):
        options = f"`{' '.join(words)}`" if words else "none"
        judged = quality.text(run["quality"]) if run["exit_code"] == 0 else f"nothing written: {_first_clause(run)}"
        yield f"| {'' if number else link} | {options} | {_file(run)} | {_faster(run)} | {judged} |"


def _page(entry: Entry, result: dict[str, Any] | None) -> Iterator[str]:
    yield from (f"# {entry.title}", "", entry.what, "")
    yield from ("| | |", "| --- | --- |", f"| from | {entry.source} |", f"| samples | {entry.calibration} |")
    if result is None:
        yield from (f"| measured | {NOT_RUN} |", "")
        yield from _how(entry)
    else:
        versions = ", ".join(f"{name} {number}" for name, number in _versions(result).items())
        yield from (f"| file | {result['bytes'] / 1e6:.2f} MB |", f"| machine | {result['machine']}, one thread |")
        yield from (f"| versions | {versions or 'unknown'} |", "")
        yield from _how(entry)
        for run in result["runs"]:
            yield from _run(run)
    yield from ("## What to watch out for", "", entry.watch)


def _how(entry: Entry) -> Iterator[str]:
    yield from ("<!-- skip: it fetches a package, or takes minutes -->", "")
    yield from ("```sh", f"python tools/gallery.py --at FOLDER {entry.name}", "```", "")


def _run(run: dict[str, Any]) -> Iterator[str]:
    yield from (f"## `{run['command']}`", "")
    if run["exit_code"] != 0:
        yield from (f"Nothing was written: {_cell(run['said'])}.", "")
        return
    before, after = run["before"], run["after"]
    yield from ("| | before | after |", "| --- | --- | --- |")
    yield f"| file | {before['size'] / 1e6:.3f} MB | {after['size'] / 1e6:.3f} MB |"
    yield f"| parameters | {before['parameters']:,} | {after['parameters']:,} |"
    yield f"| multiply-accumulates | {before['macs']:,} | {after['macs']:,} |"
    time = run["latency_ms"]
    if time:
        low, high = time["speedup_interval"]
        yield f"| one run | {time['before']['median']:.3f} ms | {time['after']['median']:.3f} ms |"
        yield f"| faster | | {time['speedup']:.2f}x [{low:.2f}, {high:.2f}] |"
    yield from ("", f"On test samples: {_decisive(run)}.", "")
    yield from (f"On inputs that nothing was fitted to: {quality.text(run['quality'])}.", "")
    if run["figures"]:
        told = (f"{name.replace('_', ' ')} {_number(value)}" for name, value in run["figures"].items())
        yield from (f"Beside that: {', '.join(told)}.", "")
    if (FOLDER / run["report"]).exists():
        yield from (f"[The report page]({run['report']})", "")


def _versions(result: dict[str, Any]) -> dict[str, str]:
    return next((run["versions"] for run in result["runs"] if "versions" in run), {})


def _decisive(run: dict[str, Any]) -> str:
    told = run["decisive"]
    if not told:
        return "nothing could be compared"
    return f"{told['metric']} {told['before']:.3f} → {told['after']:.3f} on {told['samples']} samples"


def _file(run: dict[str, Any]) -> str:
    if run["exit_code"] != 0:
        return ""
    return f"{run['before']['size'] / 1e6:.2f} → {run['after']['size'] / 1e6:.2f} MB"


def _faster(run: dict[str, Any]) -> str:
    return f"{run['latency_ms']['speedup']:.2f}x" if run["exit_code"] == 0 and run["latency_ms"] else ""


def _first_clause(run: dict[str, Any]) -> str:
    """Return what was said up to the first remark; the page has it whole."""
    return _cell(run["said"]).removeprefix("not written: ").partition(";")[0].partition(" (")[0].partition(", where")[0]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
