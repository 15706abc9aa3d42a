"""The reference of the Python API: which public name is on which page; the texts are the docstrings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnxmi

PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "functions": (
        "Functions",
        "`import onnxmi` takes a tenth of a second: what a function needs is loaded when it is called first.",
        ("prune", "sweep", "apply", "inspect", "bench", "check", "diff", "calib", "collect", "merge", "report"),
    ),
    "results": (
        "Results",
        "What the functions return, and what is in it.",
        (
            *("Result", "TradeOff", "Inspection", "Bench", "Report", "Difference"),
            *("Goal", "Quality", "Damage", "Latency", "Cost", "Layer", "Verdict", "Check"),
        ),
    ),
    "options": (
        "Options",
        "The keywords of the functions are the fields of these.",
        ("PruneOptions", "Budget", "CheckOptions", "BenchOptions", "DiffOptions"),
    ),
    "models": (
        "Models, samples, plans and statistics",
        "What goes in beside options.",
        (
            *("Model", "load", "save", "source", "Calibration", "load_calibration", "check_calibration"),
            *("Plan", "load_plan", "StatisticsFile", "load_statistics", "save_statistics", "Analysis", "analyze"),
        ),
    ),
    "errors": (
        "Errors",
        "Every error that is raised on purpose is an `OnnxmiError`. Its `exit_code` is that of the command line"
        " ([exit codes](../exit-codes.md)).",
        (
            *("OnnxmiError", "CheckError", "NothingToPruneError", "UsageError", "DataError", "ModelError"),
            *("CalibrationError", "StatisticsError", "PlanError", "InvariantError"),
        ),
    ),
}
OLDER_NAMES = {"Curve", "Measurement", "analyse", "load_measurement", "save_measurement"}


def makers() -> dict[str, Callable[[], str]]:
    """Return what makes each page."""
    return {f"reference/api/{name}.md": lambda name=name: "\n".join(_page(*PAGES[name])) for name in PAGES}


def missing() -> set[str]:
    """Return public names that are on no page."""
    listed = {name for _, _, names in PAGES.values() for name in names}
    return {name for name in dir(onnxmi) if not name.startswith("_")} - listed - OLDER_NAMES


def _page(title: str, text: str, names: tuple[str, ...]) -> Iterator[str]:
    yield from (f"# {title}", "", text, "")
    for name in names:
        is_class = isinstance(getattr(onnxmi, name), type)
        yield from (f"## {name}", "", "```{eval-rst}", ".. currentmodule:: onnxmi")
        yield f".. {'autoclass' if is_class else 'autofunction'}:: {name}"
        yield from (["   :members:"] if is_class else [])
        yield from ("```", "")
