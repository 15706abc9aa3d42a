"""`onnxmi inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from onnxmi.api.pruning import inspect as inspect_model
from onnxmi.cli.arguments import FIXED_INPUTS, IGNORED_OUTPUTS, JSON, MODEL, OUTPUTS
from onnxmi.cli.failures import epilog
from onnxmi.cli.samples import opened_if_given, sample_options
from onnxmi.cli.sizes import size_options
from onnxmi.cli.verbosity import print_data
from onnxmi.reporting.inspection import show_graph
from onnxmi.reporting.json_data import graph_data, to_json


@click.command(epilog=epilog("onnxmi inspect model.onnx --json | jq '.layers[].name'"))
@MODEL
@click.argument("calib", type=click.Path(path_type=Path), required=False)
@sample_options
@size_options
@OUTPUTS
@IGNORED_OUTPUTS
@FIXED_INPUTS
@JSON
def inspect(
    model: Path,
    calib: Path | None,
    shape: tuple[str, ...],
    dim: tuple[str, ...],
    outputs: tuple[str, ...],
    ignore_outputs: tuple[str, ...],
    fix: tuple[str, ...],
    *,
    as_json: bool,
    **settings: Any,
) -> None:
    """Show what can be cut in MODEL, layer by layer, what cannot and why, and what its outputs mean.

    The model is run on synthetic inputs: of the sizes that are given, or else of some that it runs on. With sample
    inputs in CALIB, it is run on some of those where it does not run on small synthetic ones.
    """
    samples = opened_if_given(calib, settings)
    found = inspect_model(model, samples, outputs=outputs, ignore_outputs=ignore_outputs, fix=fix, shape=shape, dim=dim)
    if as_json:
        print_data(to_json(graph_data(found.analysis, found.meaning)))
    else:
        show_graph(Console(), found.analysis, found.meaning)
