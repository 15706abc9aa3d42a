"""docs/coverage.md: one section a mode, each written by the survey that made it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

PAYS = 0.4  # share of the non-vocabulary parameters that a model should lose when half of every layer goes
SLOW = 60.0  # seconds of processor time that are too many for graphs of this size
Record = dict[str, Any]
Table = list[tuple[Any, ...]]

TITLES: Mapping[str, str] = {
    "random": "Cut at random",
    "repair": "Score and repair, all kinds",
    "macs": "`--macs 0.5`",
    "default": "Default",
}
_SAID: Mapping[str, str] = {
    "random": "Half of the units of every layer of every kind, the residual width included, without scores or repair.",
    "repair": "`prune --keep 0.5 --cut channels,ffn,heads,hidden,qk,value,width`: scored, cut, repaired and verified.",
    "macs": "`prune --macs 0.5`: sizes are chosen for half of the multiply-accumulates.",
    "default": "`prune --few-samples`, without a budget: the fastest model whose outputs stay what they were.",
}
_HEAD = """# Coverage

Graphs of real exporters with random weights: this shows what can be cut and that it is cut rightly, never accuracy.
A model with random weights has little to leave out, so a refusal for what would be lost is a right answer here.
A state of "failed" (a check stopped the result) or "crashed" would be a fault.
"""


def document(old: str, mode: str, section: str) -> str:
    """The page with one mode's section put in; the other sections stay as they are."""
    sections = dict(re.findall(r"<!-- (\w+) -->\n(.*?)<!-- end -->\n", old, re.DOTALL))
    sections[mode] = section
    parts = [f"<!-- {name} -->\n{sections[name]}<!-- end -->\n" for name in TITLES if name in sections]
    return "\n".join([_HEAD, *parts, _BODIES.rstrip() + "\n"])


def render(mode: str, records: list[Record], command: str) -> str:
    """One mode's section."""
    table = _random_table(records) if mode == "random" else _pipeline_table(records)
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in (table[0], ["---"] * len(table[0]), *table[1:])]
    lines = [f"## {TITLES[mode]}", "", _SAID[mode], "", "Made by", "", f"    {command}", ""]
    lines += [*(f"- {line}" for line in summary(mode, records).splitlines()), ""]
    lines += [_COLUMNS[mode == "random"], "", *rows, ""]
    if mode == "random":
        lines += [f"### Why less than {PAYS:.0%}: what was frozen, with the parameters that carry it", ""]
        lines += [*_reasons(records), ""]
    return "\n".join(lines)


_COLUMNS = {
    True: """Columns: layers found by kind; the share removed of all parameters, of those that are no vocabulary
tables, and of the multiply-accumulates; whether the result was verified, or why not; seconds for the
probe, the inference and a plain run over the calibration samples.""",
    False: """Columns: the share removed of all parameters and of the multiply-accumulates; what came of it, or why not;
seconds of processor time.""",
}


def _random_table(records: list[Record]) -> Table:
    head = (
        "model",
        "exporter",
        "opset",
        "nodes",
        "layers",
        "parameters",
        "without vocabulary",
        "MACs",
        "state",
        "time",
    )
    return [head, *map(_row, records)]


def _pipeline_table(records: list[Record]) -> Table:
    rows: Table = [("model", "nodes", "parameters", "MACs", "state", "seconds")]
    for record in records:
        shares = [f"{record[key]:.0%}" if key in record else "" for key in ("removed", "removed_macs")]
        state = record["status"] + (f": {_cell(record['why'])}" if record.get("why") else "")
        rows.append((record["model"], record.get("nodes", ""), *shares, state, record.get("cpu_s", "")))
    return rows


def summary(mode: str, records: list[Record]) -> str:
    """What came of it, in a few lines."""
    states = Counter(record["status"] for record in records)
    lines = [f"{len(records)} models: " + ", ".join(f"{count} {state}" for state, count in states.most_common())]
    if mode == "random":
        return "\n".join([*lines, *_shares(records)])
    times = [record["cpu_s"] for record in records if "cpu_s" in record]
    slow = [record["model"] for record in records if record.get("cpu_s", 0) > SLOW]
    lines.append(
        f"seconds of processor time: median {np.median(times):.1f}, most {max(times):.1f}"
        if times
        else "none was timed"
    )
    lines.append(f"over {SLOW:.0f} s: {', '.join(slow) or 'none'}")
    return "\n".join(lines)


def _weighs(record: Record) -> bool:
    """Whether the model has stored weights at all (test files with made weights have none)."""
    return record["status"] != "verified" or "removed_other" in record


def _shares(records: list[Record]) -> list[str]:
    """How many models lose enough, by family."""
    lines = []
    for family in ("transformer", "CNN", "other"):
        counted = [record for record in records if record.get("family") == family and _weighs(record)]
        shares = [record.get("removed_other", 0.0) for record in counted]
        if shares:
            enough = sum(share >= PAYS for share in shares)
            lines.append(
                f"{family}: {enough} of {len(shares)} ({enough / len(shares):.0%}) lose {PAYS:.0%} or more of their "
                f"parameters that are not vocabulary tables (median {np.median(shares):.0%})"
            )
    return lines


_BODIES = """## Bodies of If, Loop and Scan

They are left alone. Merged decoders have the whole network in the two branches of one If, which read the same
weights. To cut them both branches have to be run, as shapes and activations are measured and not guessed, and
onnxruntime shows no tensor inside a body. So each branch would have to be lifted out into a model of its own, with
samples for both (those of a file take one of them), both analysed as one so that what they share is cut alike, and
put back. That is another program than this one; and the same exporters write the branches as files of their own
(`decoder_model.onnx`, `decoder_with_past_model.onnx`), which are cut.
"""


def _row(record: Record) -> tuple[Any, ...]:
    shares = [f"{record[key]:.0%}" if key in record else "" for key in ("removed", "removed_other", "removed_macs")]
    layers = ", ".join(f"{count} {kind}" for kind, count in sorted(record.get("kinds", {}).items()))
    state = record["status"] + (f": {_cell(record['why'])}" if record.get("why") else "")
    times = " / ".join(f"{record[key]:.1f}" for key in ("probe_s", "analysis_s", "capture_s") if key in record)
    described = [record.get(key, "") for key in ("exporter", "opset", "nodes")]
    return (record["model"], *described, layers, *shares, state, times)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:160]


def _reasons(records: list[Record]) -> list[str]:
    lines = []
    for record in records:
        if record.get("removed_other", 0.0) >= PAYS or not _weighs(record):
            continue
        told = [f"{_cell(reason)} ({count:,})" for reason, count in record.get("frozen", []) if count]
        lines.append(f"- {record['model']}: " + ("; ".join(told) or _cell(record.get("why", "")) or "nothing frozen"))
    return lines
