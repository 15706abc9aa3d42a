"""`onnxmi sweep`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from onnxmi.api.targets import check_page, check_target
from onnxmi.budget.goals import Kind
from onnxmi.budget.units import SHARE, read_quantity
from onnxmi.cli.arguments import (
    ALIGN,
    ALLOW_INTERFACE,
    BATCH,
    BATCH_SIZE,
    CALIBRATION,
    FIXED_INPUTS,
    FRESH,
    HALF_STORAGE,
    IGNORED_OUTPUTS,
    JSON,
    MASK,
    MEMORY,
    METRIC,
    MODEL,
    OUTPUTS,
    QUANTIZATION,
    SEED,
    STATISTICS,
    THREADS,
    layer_choice,
    scoring,
    take_half,
)
from onnxmi.cli.config import config_options
from onnxmi.cli.failures import command_line, epilog
from onnxmi.cli.samples import opened, sample_options, typed_options
from onnxmi.cli.verbosity import print_data
from onnxmi.cli.workers import Choice, shard_options, timing_worker_option
from onnxmi.errors import UsageError
from onnxmi.model import load
from onnxmi.model.save import Content, write_together
from onnxmi.pruning import pipeline
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.stages import stages_of_sweep
from onnxmi.reporting import html, text
from onnxmi.reporting.json_data import curve_data, curve_rows, to_json
from onnxmi.reporting.next_steps import show_next_steps, steps_of_sweep
from onnxmi.reporting.progress import progress_bars
from onnxmi.reporting.tables import printable


def _shares(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Split a comma-separated list of shares."""
    if value is None:
        return None
    try:
        shares = tuple(read_quantity(entry, SHARE) for entry in value.split(","))
    except UsageError as error:
        raise click.BadParameter(f"{value!r} is not a list of shares such as 0.7,0.5,0.3") from error
    if not all(0.0 < share < 1.0 for share in shares):
        raise click.BadParameter(f"{value!r}: every share has to be between 0 and 1")
    return shares


@click.command(
    epilog=epilog(
        "onnxmi sweep model.onnx calib.npz",
        "onnxmi sweep model.onnx calib.npz --by size --at 0.8,0.6,0.4",
        "onnxmi sweep model.onnx calib.npz --quantize auto",
        "onnxmi sweep model.onnx calib.npz --csv curve.csv --report curve.html",
    )
)
@MODEL
@CALIBRATION
@sample_options
@click.option(
    "--by", type=click.Choice(get_args(Kind)), default="time", show_default=True, help="The cost that is reduced."
)
@click.option(
    "--at",
    "shares",
    metavar="R,...",
    callback=_shares,
    help="Shares of that cost, such as 0.7,0.5 [default: seven, down to the smallest].",
)
@METRIC
@QUANTIZATION
@HALF_STORAGE
@OUTPUTS
@IGNORED_OUTPUTS
@FIXED_INPUTS
@ALLOW_INTERFACE
@ALIGN
@BATCH
@scoring
@layer_choice
@SEED
@THREADS
@BATCH_SIZE
@MASK
@MEMORY
@FRESH
@STATISTICS
@shard_options
@timing_worker_option
@config_options("sweep")
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Also write the curve as CSV.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Also write an HTML page with plots.")
@JSON
def sweep(
    model: Path,
    calib: Path,
    by: Kind,
    shares: tuple[float, ...] | None,
    stats: Path | None,
    table: Path | None,
    page: Path | None,
    *,
    as_json: bool,
    **settings: Any,
) -> None:
    """Show the trade-off between cost and quality of MODEL, from one measurement on the samples in CALIB.

    A model is made for every share, measured, and judged on samples that nothing was fitted to. No model is written:
    choose one, and ask `onnxmi prune` for it. With --quantize every model is an 8-bit one, the first is not pruned, and
    size and time are those of the 8-bit file.
    """
    take_half(settings)
    inputs = (model, calib, *filter(None, [stats]))
    if table is not None:
        check_target(table, *inputs)
    if page is not None:
        html.require_extra()
        check_page(page, *filter(None, [*inputs, table]))
    if table is not None and page is not None and table.resolve() == page.resolve():
        raise UsageError(f"{page}: --csv and --report name the same file")
    samples, choice = opened(calib, settings), Choice.taken(settings)
    options = PruneOptions(**settings)
    source = load(model)
    given = {"timed": by == "time", "given_statistics": stats is not None}
    stages = stages_of_sweep(options, **given, by_workers=choice.who is not None)
    with progress_bars(stages) as progress, choice.opened() as workers:
        curve = pipeline.sweep(
            source, samples, options, by=by, shares=shares, statistics=stats, progress=progress, workers=workers
        )
    data = to_json({"input": str(model), "command": command_line(click.get_current_context()), **curve_data(curve)})
    files: dict[Path, Content] = {}
    if table is not None:
        files[table] = _csv(curve_rows(curve))
    if page is not None:
        files[page] = html.render(json.loads(data), "this sweep")
    if files:
        write_together(files)
    if as_json:
        print_data(data)
        return
    console = Console()
    text.show_curve(console, curve)
    for path in files:
        click.echo(printable(f"wrote {path}"))
    show_next_steps(console, steps_of_sweep(curve, model, calib, typed_options(click.get_current_context())))


def _csv(rows: list[dict[str, Any]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()
