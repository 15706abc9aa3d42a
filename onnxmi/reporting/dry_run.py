"""What a run would do, as `onnxmi prune --dry-run` prints it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from onnxmi.budget.goals import DEFAULT_DROP, UNITS, option
from onnxmi.budget.units import typed_percent
from onnxmi.pruning.dry_run import DryRun
from onnxmi.reporting.blocks import KIND_NAMES
from onnxmi.reporting.tables import Pairs, plain

_MINUTE = 90.0  # seconds from which on minutes say enough


def show_dry_run(console: Console, run: DryRun) -> None:
    """Print what would be cut, on which samples, how it would be tried, and about how long that takes."""
    session = run.session
    parts = session.split
    rows = [
        ("asked", plain(_asked(run))),
        ("layers", plain(_layers(run))),
        (
            "samples",
            plain(f"{len(parts.fit):,} to fit, {len(parts.validation):,} to choose repairs on,"
            f" {len(parts.search):,} to search on, {len(parts.test):,} to report on"),
        ),
        *((stage.name, plain(f"{stage.text}: about {_time(stage.seconds)}")) for stage in run.stages),
    ]  # fmt: skip
    console.print(Text("Dry run: nothing is written", style="bold"))
    console.print(Pairs(rows))
    console.print(plain(f"About {_time(run.seconds)} in all; on a busy machine several times as long."))
    for hint in run.hints:
        console.print(plain(f"note: {hint.text}"))


def dry_run_data(run: DryRun) -> dict[str, Any]:
    """Return the same as plain data."""
    parts = run.session.split
    return {
        "budget": dict(run.session.options.budget.asked),
        "layers": [layer.name for layer in run.session.layers],
        "left_out": [layer.name for layer in run.session.left_out],
        "samples": {name: len(getattr(parts, name)) for name in ("fit", "validation", "search", "test")},
        "stages": [vars(stage) for stage in run.stages],
        "seconds": run.seconds,
        "hints": [vars(hint) for hint in run.hints],
    }


def _asked(run: DryRun) -> str:
    budget = run.session.options.budget
    if not budget.asked:
        return f"the fastest model that loses at most {typed_percent(DEFAULT_DROP)} of the metric"
    texts = {name: UNITS[name].typed(value) if name in UNITS else f"{value:g}" for name, value in budget.asked.items()}
    return ", ".join(f"{option(name)} {text}" for name, text in texts.items())


def _layers(run: DryRun) -> str:
    kinds: dict[str, int] = {}
    for layer in run.session.layers:
        kinds[layer.kind] = kinds.get(layer.kind, 0) + layer.units
    units = ", ".join(f"{units:,} {KIND_NAMES.get(kind, kind)}" for kind, units in kinds.items())
    left = f"; {len(run.session.left_out)} layers are left out" if run.session.left_out else ""
    return f"{len(run.session.layers)} that may be cut: {units or 'none'}{left}"


def _time(seconds: float) -> str:
    if seconds >= _MINUTE:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
