"""`onnxmi inspect`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from onnxmi.api.pruning import inspect as inspect_model
from onnxmi.cli.arguments import IGNORED_OUTPUTS, JSON, MODEL, OUTPUTS
from onnxmi.cli.failures import epilog
from onnxmi.cli.verbosity import print_data
from onnxmi.reporting import text
from onnxmi.reporting.json_data import graph_data, to_json


@click.command(epilog=epilog("onnxmi inspect model.onnx --json | jq '.layers[].name'"))
@MODEL
@OUTPUTS
@IGNORED_OUTPUTS
@JSON
def inspect(model: Path, outputs: tuple[str, ...], ignore_outputs: tuple[str, ...], *, as_json: bool) -> None:
    """Show what can be cut in MODEL, layer by layer, what cannot and why, and what its outputs mean."""
    found = inspect_model(model, outputs=outputs, ignore_outputs=ignore_outputs)
    if as_json:
        print_data(to_json(graph_data(found.analysis, found.meaning)))
    else:
        text.show_graph(Console(), found.analysis, found.meaning)
