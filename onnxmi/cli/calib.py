"""`onnxmi calib`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxmi.api.samples import calib as write_samples
from onnxmi.api.targets import check_target
from onnxmi.cli.arguments import JSON, MODEL, SEED
from onnxmi.cli.failures import epilog
from onnxmi.cli.samples import opened_if_given, sample_options
from onnxmi.cli.sizes import size_options
from onnxmi.cli.verbosity import print_data
from onnxmi.model import load
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.samples import samples_data, samples_lines
from onnxmi.reporting.tables import printable


@click.command(
    epilog=epilog(
        "onnxmi calib model.onnx photos/ --mean 0.5 --std 0.5 -o calib.npz",
        "onnxmi calib model.onnx reviews.csv --tokenizer tokenizer.json --column text -o calib.npz",
        "onnxmi calib model.onnx --random 64 -o random.npz    for a first try without data",
    )
)
@MODEL
@click.argument("source", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write the samples.")
@click.option("--random", type=click.IntRange(min=1), metavar="N", help="Make N random samples, for a first try.")
@sample_options
@size_options
@SEED
@JSON
def calib(model: Path, source: Path | None, output: Path, *, as_json: bool, **settings: Any) -> None:
    """Write the samples in SOURCE as MODEL takes them, and show the first one.

    SOURCE is what other commands take as CALIB: arrays, images, texts, tables or sounds. The only array need not have
    the name of the only input. With --random, inputs are made up: normal numbers, tokens that the model has, nothing
    masked. Such a file carries a mark, and every result says that it is of random data.
    """
    samples = opened_if_given(source, settings)
    check_target(output, *filter(None, [model, source]))
    written = write_samples(load(model), samples, output=output, **settings)
    size = output.stat().st_size
    if as_json:
        print_data(to_json({"output": str(output), "bytes": size, **samples_data(written)}))
        return
    click.echo(printable(f"wrote {output} ({size:,} bytes): {written.count:,} samples"))
    for line in samples_lines(written):
        click.echo(printable(line))
