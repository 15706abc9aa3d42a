"""Puts the page together: one file that needs nothing else, and the same bytes for the same input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from onnxmi.reporting.html import plots
from onnxmi.reporting.html.curve import is_sweep, read_sweep, read_trials
from onnxmi.reporting.html.fields import Fields
from onnxmi.reporting.html.plots import MOST_PANELS, ROWS
from onnxmi.reporting.html.reading import Run, read_run
from onnxmi.reporting.html.svg import settings
from onnxmi.reporting.html.wording import percent, points, speed
from onnxmi.version import __version__


@dataclass(frozen=True)
class Card:
    """One number worth a glance: what it is, and what stands below it."""

    name: str
    value: str
    remark: str = ""


def render(result: Mapping[str, Any], where: str, sweep: tuple[Mapping[str, Any], str] | None = None) -> bytes:
    """Return the page.

    Parameters
    ----------
    result : mapping
        What `prune --json` printed, or `sweep --json`.
    where : str
        Its file, for errors.
    sweep : mapping and str, optional
        What `sweep --json` printed, and its file.

    Raises
    ------
    DataError
        If one of them is something else.
    """
    with settings():
        if is_sweep(result) and "layers" not in result:
            return _fill(_sweep_context(result, where))
        return _fill(_run_context(result, where, sweep))


def _run_context(
    result: Mapping[str, Any], where: str, sweep: tuple[Mapping[str, Any], str] | None
) -> dict[str, object]:
    run = read_run(result, where)
    curve = read_trials(result, where, run) if sweep is None else read_sweep(*sweep, run)
    growing = sum(1 for layer in run.layers if layer.gains)
    return {
        "title": run.title or "Pruned model",
        "lead": _lead(run),
        "cards": _cards(run),
        "run": run,
        "unit": plots.unit_of(run.score),
        "summary": plots.summary(run),
        "curve": plots.trade_off(curve),
        "here": curve is not None and curve.here is not None,
        "dense": curve is not None and curve.dense is not None,
        "layers": plots.layers(run),
        "overview": len(run.layers) > 2 * ROWS,
        "growth": plots.growth(run),
        "undrawn": max(growing - MOST_PANELS, 0),
        "repairs": plots.repairs(run),
        "failed": [check.name for check in run.checks if not check.passed],
    }


def _sweep_context(sweep: Mapping[str, Any], where: str) -> dict[str, object]:
    fields = Fields(sweep, where)
    title = fields.text("model") if isinstance(sweep.get("model"), str) else ""
    curve = read_sweep(sweep, where)
    return {
        "title": title or "Sweep",
        "lead": "What models of several sizes keep.",
        "run": None,
        "curve": plots.trade_off(curve),
        "here": False,
        "dense": curve.dense is not None,
    }


def _lead(run: Run) -> str:
    """One sentence for who reads no further."""
    left = {found.name: found.left for found in run.quantities}
    told = [
        f"{percent(left[name])} of the {name}" for name in ("parameters", "MACs a sample") if left.get(name) is not None
    ]
    sentence = f"The pruned model has {' and '.join(told)}." if told else "A pruned model."
    if run.agreement.agreement is not None:
        sentence += f" It gives the same top answer as the original in {percent(run.agreement.agreement)} of the cases."
    return sentence


def _cards(run: Run) -> list[Card]:
    names = {"parameters": "parameters left", "file size": "of the file size", "MACs a sample": "of the MACs"}
    cards = [Card(names[q.name], percent(q.left)) for q in run.quantities if q.name in names and q.left is not None]
    if run.speedup is not None and run.speedup > 0:
        value, _, way = speed(run.speedup).partition(" ")
        cards.append(Card(way, value, "one sample at a time"))
    seen = run.agreement
    if seen.accuracy is not None and seen.original_accuracy is not None:
        change = seen.accuracy - seen.original_accuracy
        cards.append(Card("accuracy", percent(seen.accuracy), points(change)))
    if seen.agreement is not None:
        cards.append(Card("same top answer", percent(seen.agreement)))
    elif seen.relative_error is not None:
        cards.append(Card("error of the output", percent(seen.relative_error), "of its standard deviation"))
    return cards


def _fill(context: Mapping[str, object]) -> bytes:
    environment = Environment(
        loader=PackageLoader("onnxmi.reporting.html", "templates"),
        autoescape=True,  # names come from files
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup  # what `svg.inline` wrote has every text escaped
    style = environment.loader.get_source(environment, "style.css")[0] if environment.loader else ""
    page = environment.get_template("page.html").render(context, style=Markup(style), version=__version__)
    return f"{page.rstrip()}\n".encode()
