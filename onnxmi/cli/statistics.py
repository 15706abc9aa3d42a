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
from onnxmi.cli.workers import Choice, shard_options
from onnxmi.data.calibration import RANDOM_NOTE
from onnxmi.data.shards import Shard, parse_shard
from onnxmi.errors import UsageError
from onnxmi.model import load
from onnxmi.pruning import collect
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.parallel_capture import capture_in_shards
from onnxmi.pruning.shards import capture_shard
from onnxmi.pruning.stages import stages_of_shards
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.progress import progress_bars
from onnxmi.reporting.tables import printable
from onnxmi.statistics.merging import merge_to
from onnxmi.statistics.statistics_file import load_statistics, save_statistics

STATS_OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write the statistics."
)


def _shard(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Shard | None:
    return None if value is None else parse_shard(value)


SHARD = click.option(
    "--shard",
    metavar="I/N",
    callback=_shard,
    help="Measure part I, from 0 on, of N; `onnxmi merge` adds all up. A finished part is not measured again.",
)


@click.command(
    epilog=epilog(
        "onnxmi capture model.onnx calib.npz -o model.stats.npz",
        "onnxmi capture model.onnx samples/ --shard 3/8 -o s_3.npz    one job of 8",
        "onnxmi capture model.onnx samples/ --jobs 4 -o model.stats.npz",
        "onnxmi capture model.onnx samples/ --dask tls://host:8786 --shards 1000 -o model.stats.npz",
    )
)
@MODEL
@CALIBRATION
@sample_options
@STATS_OUTPUT
@SHARD
@shard_options
@SEED
@THREADS
@BATCH_SIZE
@MASK
@MEMORY
@JSON
def capture(model: Path, calib: Path, output: Path, shard: Shard | None, *, as_json: bool, **settings: Any) -> None:
    """Collect statistics of MODEL on the samples in CALIB once, for many runs.

    Use the file with `onnxmi prune MODEL CALIB --statistics STATS`, with the same seed and mask. A sample is measured,
    used for judging or held back by its content and the seed, in whatever file it is.
    """
    check_target(output, model, calib)
    samples, choice = opened(calib, settings), Choice.taken(settings)
    if shard is not None and choice.who is not None:
        raise UsageError("--shard measures one part here; with --jobs or --dask all are: give their number, --shards N")
    options = PruneOptions(**settings)
    stages = stages_of_shards() if choice.who is not None else []
    with progress_bars(stages) as progress, choice.opened() as workers:
        if workers is not None:
            capture_in_shards(workers, load(model), samples, options, output, progress)
        elif shard is not None:
            capture_shard(load(model), samples, shard, output, options, progress)
        else:
            save_statistics(collect.collect(model, samples, options, progress), output)
    _show(output, as_json=as_json)


@click.command(
    epilog=epilog(
        "onnxmi merge s_*.npz -o model.stats.npz                          all shards of a source",
        "onnxmi merge monday.stats.npz tuesday.stats.npz -o week.stats.npz",
    )
)
@click.argument("stats", type=click.Path(path_type=Path), nargs=-1, required=True)
@STATS_OUTPUT
@JSON
def merge(stats: tuple[Path, ...], output: Path, *, as_json: bool) -> None:
    """Add up STATS files that were measured on different samples of one model.

    The result is what one measurement of all samples gives, up to rounding, where no rows were left out; where they
    were, it has the rows that each part drew. The same files give the same bytes, in whatever order they are named.
    """
    check_target(output)
    merge_to(stats, output)
    _show(output, as_json=as_json)


def _show(output: Path, *, as_json: bool) -> None:
    measured, size = load_statistics(output), output.stat().st_size
    notes = [RANDOM_NOTE] if measured.random else []
    part = {} if measured.shard is None else {"shard": str(measured.shard.shard)}
    if as_json:
        shown = {
            "samples": measured.samples,
            "rows": list(measured.fit.rows),
            "options": dict(measured.options),
            "notes": notes,
        }
        print_data(to_json({"output": str(output), "bytes": size, **shown, **part}))
        return
    of = f", shard {part['shard']}" if part else ""
    click.echo(printable(f"wrote {output} ({size:,} bytes): {measured.extent}{of}"))
    for note in notes:
        click.echo(f"note: {note}")
