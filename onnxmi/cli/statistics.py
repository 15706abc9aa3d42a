"""`onnxmi capture` and `onnxmi merge`: measuring once for many plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxmi.api.targets import check_target
from onnxmi.cli.arguments import BATCH_SIZE, CALIBRATION, JSON, MASK, MEMORY, MODEL, SEED, THREADS
from onnxmi.cli.failures import epilog
from onnxmi.cli.samples import opened, sample_options
from onnxmi.cli.verbosity import print_data
from onnxmi.data.calibration import RANDOM_NOTE
from onnxmi.pruning import collect
from onnxmi.pruning.options import PruneOptions
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.progress import progress_bars
from onnxmi.reporting.tables import printable
from onnxmi.statistics.statistics_file import StatisticsFile, merge_files, save_statistics

STATS_OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write the statistics."
)


@click.command(epilog=epilog("onnxmi capture model.onnx calib.npz -o model.stats.npz"))
@MODEL
@CALIBRATION
@sample_options
@STATS_OUTPUT
@SEED
@THREADS
@BATCH_SIZE
@MASK
@MEMORY
@JSON
def capture(model: Path, calib: Path, output: Path, *, as_json: bool, **settings: Any) -> None:
    """Collect statistics of MODEL on the samples in CALIB once, for many runs.

    Use the file with `onnxmi prune MODEL CALIB --statistics STATS`, with the same seed and mask. A sample is measured,
    used for judging or held back by its content and the seed, in whatever file it is.
    """
    check_target(output, model, calib)
    samples = opened(calib, settings)
    with progress_bars() as progress:
        measured = collect.collect(model, samples, PruneOptions(**settings), progress)
    _show_measurement(output, measured, as_json=as_json)


@click.command(epilog=epilog("onnxmi merge monday.stats.npz tuesday.stats.npz -o week.stats.npz"))
@click.argument("stats", type=click.Path(path_type=Path), nargs=-1, required=True)
@STATS_OUTPUT
@JSON
def merge(stats: tuple[Path, ...], output: Path, *, as_json: bool) -> None:
    """Add up STATS files that were measured on different samples of one model.

    The result is what one measurement of all samples gives, up to rounding, where no rows were left out; where they
    were, it has the rows that each part drew.
    """
    check_target(output)
    _show_measurement(output, merge_files(stats), as_json=as_json)


def _show_measurement(output: Path, measured: StatisticsFile, *, as_json: bool) -> None:
    size = save_statistics(measured, output)
    fewest, most = measured.fit.rows
    notes = [RANDOM_NOTE] if measured.random else []
    if as_json:
        shown = {"samples": measured.samples, "rows": [fewest, most], "options": dict(measured.options), "notes": notes}
        print_data(to_json({"output": str(output), "bytes": size, **shown}))
        return
    rows = f"{measured.samples:,} samples, {fewest:,} to {most:,} rows for each layer"
    click.echo(printable(f"wrote {output} ({size:,} bytes): {rows}"))
    for note in notes:
        click.echo(f"note: {note}")
