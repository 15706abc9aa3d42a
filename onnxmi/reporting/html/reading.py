"""What the page shows of a run, read from what `prune --json` printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxmi.errors import DataError
from onnxmi.reporting.html.fields import Fields
from onnxmi.reporting.html.findings import Findings, read_findings


@dataclass(frozen=True)
class Quantity:
    """Something measured of the model before and after: its name, unit (`count`, `bytes` or `ms`) and values."""

    name: str
    unit: str
    before: float
    after: float
    spread: tuple[float | None, float | None] = (None, None)

    @property
    def left(self) -> float | None:
        """What is left of it, as a share."""
        return self.after / self.before if self.before > 0 else None


@dataclass(frozen=True)
class Agreement:
    """How close the result is to the original, on samples that nothing was fitted to. Shares from 0 to 1."""

    samples: float | None
    agreement: float | None
    relative_error: float | None
    accuracy: float | None
    original_accuracy: float | None


@dataclass(frozen=True)
class LayerCut:
    """A layer that was cut: units before and after (of all parts), and what each unit added when it was chosen."""

    name: str
    kind: str
    before: int
    after: int
    parts: int
    gains: tuple[float, ...]


@dataclass(frozen=True)
class LeftAlone:
    """A layer that was not cut, and why."""

    name: str
    size: int | None
    reason: str


@dataclass(frozen=True)
class RepairRow:
    """What repair did to an operator: errors relative to the variance of its outputs."""

    operator: str
    used: bool
    plain: float | None
    repaired: float | None
    reason: str


@dataclass(frozen=True)
class CheckRow:
    """A check: name, verdict and what was seen."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Run:
    """A run of `prune`, as the page shows it."""

    title: str
    quantities: tuple[Quantity, ...]
    speedup: float | None
    agreement: Agreement
    score: str
    layers: tuple[LayerCut, ...]
    alone: tuple[LeftAlone, ...]
    repairs: tuple[RepairRow, ...]
    checks: tuple[CheckRow, ...]
    notes: tuple[str, ...]
    budget: tuple[tuple[str, str], ...]
    made: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    command: str
    findings: Findings
    model: str


def read_run(data: Mapping[str, Any], where: str) -> Run:
    """Read the result of `prune --json`.

    Raises
    ------
    DataError
        If it is something else, or a field has another type.
    """
    fields = Fields(data, where)
    if "layers" not in fields or "before" not in fields or "after" not in fields:
        raise DataError(f"{where}: is not what `onnxmi prune --json` prints: it lacks `layers`, `before` or `after`")
    options = fields.fields("options")
    quality = fields.fields("quality")
    return Run(
        title=fields.text("output", 60),
        quantities=_quantities(fields),
        speedup=fields.fields("latency_ms").number("speedup"),
        agreement=Agreement(
            *(
                quality.number(key)
                for key in ("samples", "agreement", "relative_error", "accuracy", "original_accuracy")
            )
        ),
        score=options.spelled("score") if "score" in options else "",  # a plan edited by hand may say anything here
        layers=tuple(_layer(entry) for entry in fields.entries("layers")),
        alone=_left_alone(fields),
        repairs=tuple(_repair(entry) for entry in fields.entries("repair")),
        checks=tuple(
            CheckRow(entry.text("name"), entry.flag("passed"), entry.text("detail"))
            for entry in fields.entries("checks")
        ),
        notes=fields.texts("notes"),
        budget=_budget(fields),
        made=_made(fields),
        options=options.pairs(),
        command=fields.text("command", 2000),
        findings=read_findings(fields),
        model=fields.text("input", 80),
    )


_COUNTS = (("parameters", "parameters", "count"), ("size", "file size", "bytes"), ("macs", "MACs a sample", "count"))


def _quantities(fields: Fields) -> tuple[Quantity, ...]:
    before, after = fields.fields("before"), fields.fields("after")
    found = [(name, unit, before.number(key), after.number(key)) for key, name, unit in _COUNTS]
    rows = [Quantity(name, unit, was, now) for name, unit, was, now in found if was is not None and now is not None]
    latency = fields.fields("latency_ms")
    slow, fast = latency.fields("before"), latency.fields("after")
    was, now = slow.number("median"), fast.number("median")
    if was is not None and now is not None:
        rows.append(Quantity("latency, one sample", "ms", was, now, (slow.number("spread"), fast.number("spread"))))
    return tuple(rows)


def _layer(entry: Fields) -> LayerCut:
    sizes = [entry.number(key) for key in ("before", "after")]
    before, after = (max(int(size), 0) for size in sizes if size is not None) if None not in sizes else (0, 0)
    if before <= 0 or after > before:
        raise DataError(f"{entry.where}: has no sizes, or is larger after than before")
    parts = max(int(entry.number("parts") or 1), 1)
    return LayerCut(entry.text("name"), entry.text("kind"), before, after, parts, entry.numbers("gains"))


def _verdict(goal: Fields) -> str:
    """Return whether a goal is met; older files have a flag and no words."""
    if "verdict" in goal:
        return f": {goal.text('verdict', 20)}"
    return ": met" if goal.flag("met") else ": not met" if "met" in goal else ""


def _budget(fields: Fields) -> tuple[tuple[str, str], ...]:
    """Read what was asked for and reached: a list of goals, or an object of both."""
    key = next((key for key in ("goals", "budget") if fields.lists(key)), None)
    if key is None:
        return fields.fields("budget").pairs()
    return tuple(
        (
            entry.text("name"),
            f"asked {entry.spelled('asked')}, reached {entry.spelled('reached')}" + _verdict(entry),
        )
        for entry in fields.entries(key)
    )


def _left_alone(fields: Fields) -> tuple[LeftAlone, ...]:
    options = fields.fields("options")
    filtered = options.says("skip") or options.says("only")
    why = "excluded by --skip or --only, or its kind was not to be cut" if filtered else "its kind was not to be cut"
    chosen = [LeftAlone(name, None, why) for name in fields.texts("left_out")]
    for entry in fields.entries("kept_whole"):
        units = entry.number("units")
        chosen.append(
            LeftAlone(entry.text("name"), None if units is None else int(units), f"{entry.text('kind')} kept whole")
        )
    for entry in fields.entries("frozen"):
        size = entry.number("size")
        chosen.append(LeftAlone(entry.text("name"), None if size is None else int(size), entry.text("reason")))
    return tuple(chosen)


def _repair(entry: Fields) -> RepairRow:
    errors = entry.number("error_plain"), entry.number("error_repaired")
    return RepairRow(entry.text("operator"), entry.flag("used"), *errors, entry.text("reason"))


def _made(fields: Fields) -> tuple[tuple[str, str], ...]:
    rows = [
        ("model", fields.text("output")),
        ("plan", fields.text("plan")),
        ("SHA-256 of the original model", fields.fields("model").text("sha256")),
        ("SHA-256 of the plan", fields.text("plan_sha256")),
        *fields.fields("versions").pairs(),
    ]
    return tuple((name, value) for name, value in rows if value)
