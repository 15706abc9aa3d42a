"""`onnxmi diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from onnxmi.cli.arguments import BATCH_SIZE, IGNORED_OUTPUTS, JSON, METRIC, OUTPUTS, THREADS
from onnxmi.cli.failures import epilog
from onnxmi.cli.samples import opened_if_given, sample_options
from onnxmi.cli.sizes import size_options
from onnxmi.cli.verbosity import print_data
from onnxmi.gate.difference import DiffOptions, difference
from onnxmi.reporting.difference import difference_data, show_difference
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.progress import is_verbose


@click.command(
    epilog=epilog(
        "onnxmi diff model.onnx model.pruned.onnx",
        "onnxmi diff model.onnx model.pruned.onnx --data eval.npz --json",
    )
)
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Samples, as for prune [default: synthetic inputs].")
@sample_options
@size_options
@METRIC
@OUTPUTS
@IGNORED_OUTPUTS
@THREADS
@BATCH_SIZE
@JSON
def diff(first: Path, second: Path, *, as_json: bool, **settings: Any) -> None:
    """Show what is different between models A and B: layers, operators, stored tensors, size, and outputs.

    Layers and tensors are matched by name. The outputs are compared on one synthetic input, or with --data on samples,
    by the metrics that `onnxmi check` uses. The exit code is 0 whether they differ or not.
    """
    settings["data"] = opened_if_given(settings["data"], settings)
    found = difference(first, second, DiffOptions(**settings))
    if as_json:
        print_data(to_json(difference_data(found)))
    else:
        show_difference(Console(), found, everything=is_verbose())
