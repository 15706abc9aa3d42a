"""The results as a table in markdown: the last one of each file, arm and label."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from shipped.files import FILES
from shipped.pruning import TIMED_OUT

Record = dict[str, Any]
ERROR = "error: "
MOST_SAID = 140


def ending(record: Record) -> str:
    code = record["exit_code"]
    return "out of time" if code == TIMED_OUT else f"exit {code}"


def said(record: Record) -> str:
    """The line that tells why nothing was written; nothing where something was."""
    if record["exit_code"] == 0:
        return ""
    lines = [line.strip() for line in record["said"].splitlines() if line.strip()]
    errors = [line.partition(ERROR)[2] for line in lines if ERROR in line] or lines[-1:]
    return "".join(errors[:1]).replace("|", "/")[:MOST_SAID]


def judged(record: Record) -> str:
    figures = record.get("figures")
    if figures is None:
        return said(record)
    return ", ".join(f"{name.replace('_', ' ')} {figures[name]:.3f}" for name in FILES[record["name"]].family.headline)


def speed(record: Record) -> str:
    return f"{record['figures']['speedup']:.2f}x" if "figures" in record else ""


def size(record: Record) -> str:
    if "figures" not in record:
        return ""
    figures = record["figures"]
    return f"{figures['bytes_original'] / 1e6:.2f} -> {figures['bytes_pruned'] / 1e6:.2f}"


def seconds(record: Record) -> str:
    return f"{record['wall_s']:.0f} ({record['cpu_s']:.0f})"


COLUMNS: dict[str, Callable[[Record], str]] = {
    "file": lambda record: str(record["name"]),
    "arm": lambda record: str(record["arm"]),
    "version": lambda record: str(record["label"]),
    "ending": ending,
    "seconds (CPU)": seconds,
    "peak GiB": lambda record: f"{record['peak_gib']:.2f}",
    "MB": size,
    "faster": speed,
    "on fresh inputs": judged,
}


def table(records: Iterable[Record]) -> str:
    last = {(record["name"], record["arm"], record["label"]): record for record in records}
    ordered = sorted(last.values(), key=lambda record: (list(FILES).index(record["name"]), record["arm"]))
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell(record) for cell in COLUMNS.values()) + " |" for record in ordered]
    return "\n".join(lines)
