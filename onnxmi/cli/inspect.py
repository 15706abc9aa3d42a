"""`onnxmi inspect`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from onnxmi import pipeline, report
from onnxmi.cli.arguments import JSON, MODEL
from onnxmi.cli.failures import epilog
from onnxmi.cli.verbosity import print_data
from onnxmi.report_data import graph_data, to_json


@click.command(epilog=epilog("onnxmi inspect model.onnx --json | jq '.layers[].name'"))
@MODEL
@JSON
def inspect(model: Path, as_json: bool) -> None:
    """Show what can be cut in MODEL, layer by layer, and what cannot and why."""
    analysis = pipeline.analyse(model)
    if as_json:
        print_data(to_json(graph_data(analysis)))
    else:
        report.show_graph(Console(), analysis)
