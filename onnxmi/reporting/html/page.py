"""Puts the page together: one file that needs nothing else, and the same bytes for the same input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from onnxmi.budget.goals import DEFAULT_DROP
from onnxmi.errors import UsageError
from onnxmi.reporting.html import lead, plots
from onnxmi.reporting.html.curve import Curve, is_sweep, read_sweep, read_trials
from onnxmi.reporting.html.fields import Fields
from onnxmi.reporting.html.measured import bench_context, check_context, is_bench, is_check
from onnxmi.reporting.html.plots import MOST_PANELS, ROWS, repaired_sentence
from onnxmi.reporting.html.reading import read_run
from onnxmi.reporting.html.steps import steps_table
from onnxmi.reporting.html.svg import settings
from onnxmi.reporting.html.tiles import headline, tiles
from onnxmi.reporting.html.wording import counted, decimal, percent, speed
from onnxmi.version import __version__


def render(result: Mapping[str, Any], where: str, sweep: tuple[Mapping[str, Any], str] | None = None) -> bytes:
    """Return the page.

    Parameters
    ----------
    result : mapping
        What `prune --json` printed, or `sweep --json`, `bench --json` or `check --json`.
    where : str
        Its file, for errors.
    sweep : mapping and str, optional
        What `sweep --json` printed, and its file.

    Raises
    ------
    DataError
        If one of them is something else.
    """
    if is_check(result):
        return _fill(check_context(result, where), "check.html")
    if is_bench(result):
        return _fill(bench_context(result, where), "bench.html")
    with settings():
        if is_sweep(result) and "layers" not in result:
            return _fill(_sweep_context(result, where))
        return _fill(_run_context(result, where, sweep))


def _run_context(
    result: Mapping[str, Any], where: str, sweep: tuple[Mapping[str, Any], str] | None
) -> dict[str, object]:
    if sweep is not None:
        _require_same_model(result, where, *sweep)
    run = read_run(result, where)
    curve = read_trials(result, where, run) if sweep is None else read_sweep(*sweep, run)
    growing = sum(1 for layer in run.layers if layer.gains)
    return {
        "headline": headline(run),
        "title": run.model or run.title or "Pruned model",
        "output": run.title,
        "tiles": tiles(run),
        "run": run,
        "steps": steps_table(Fields(result, where)),
        "hero": lead.trade_off(curve, run),
        "here": run.findings.decisive is not None,
        "network": lead.picture(run),
        "blocks": lead.blocks_of(run),
        "unit": plots.unit_of(run.score),
        "summary": plots.summary(run),
        "curve": plots.trade_off(curve),
        "dense": curve is not None and curve.dense is not None,
        "layers": plots.layers(run),
        "overview": len(run.layers) > 2 * ROWS,
        "growth": plots.growth(run),
        "undrawn": max(growing - MOST_PANELS, 0),
        "repairs": plots.repairs(run),
        "repaired": repaired_sentence(run),
        "failed": [check.name for check in run.checks if not check.passed],
    }


def _require_same_model(result: Mapping[str, Any], where: str, sweep: Mapping[str, Any], sweep_file: str) -> None:
    """Refuse a sweep of another model: files that say of which model they are say it by its digest."""
    digests = [Fields(data, place).fields("model").text("sha256") if isinstance(data.get("model"), dict) else ""
               for data, place in ((result, where), (sweep, sweep_file))]  # fmt: skip
    if all(digests) and digests[0] != digests[1]:
        ours, theirs = (digest[:12] for digest in digests)
        raise UsageError(f"{sweep_file}: is a sweep of another model than {where}: SHA-256 {theirs} against {ours}")


def _sweep_context(sweep: Mapping[str, Any], where: str) -> dict[str, object]:
    fields = Fields(sweep, where)
    named = fields.text("model") if isinstance(sweep.get("model"), str) else fields.text("input", 80)
    curve = read_sweep(sweep, where)
    return {
        "headline": _sweep_headline(curve),
        "title": named or "Sweep",
        "output": "",
        "tiles": [],
        "run": None,
        "hero": lead.trade_off(curve, None),
        "here": False,
        "network": None,
        "curve": plots.trade_off(curve),
        "dense": curve.dense is not None,
        "command": fields.text("command", 2000),
        "samples": fields.number("samples"),
    }


def _sweep_headline(curve: Curve) -> str:
    """Say what the fastest model that loses at most a point gains."""
    fitting = [
        point for point in curve.points if point.drop is not None and point.drop <= DEFAULT_DROP and point.speedup
    ]
    if not fitting:
        return f"{counted(len(curve.points), 'model')} between speed and quality"
    best = max(fitting, key=lambda point: point.speedup or 0.0)
    return f"Up to {speed(best.speedup)} at no more than one point lost"


def _fill(context: Mapping[str, object], template: str = "page.html") -> bytes:
    environment = Environment(
        loader=PackageLoader("onnxmi.reporting.html", "templates"),
        autoescape=True,  # names come from files
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup  # what `svg.inline` wrote has every text escaped
    environment.filters["percent"] = percent
    environment.filters["decimal"] = decimal
    style = environment.loader.get_source(environment, "style.css")[0] if environment.loader else ""
    page = environment.get_template(template).render(context, style=Markup(style), version=__version__)
    return f"{page.rstrip()}\n".encode()
