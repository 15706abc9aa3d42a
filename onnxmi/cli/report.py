"""`onnxmi report`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxmi.api.targets import check_target
from onnxmi.cli.failures import epilog
from onnxmi.model.save import write_atomically
from onnxmi.reporting import html
from onnxmi.reporting.html.fields import read_json
from onnxmi.reporting.tables import printable


@click.command(
    epilog=epilog(
        "onnxmi prune model.onnx calib.npz --json > run.json && onnxmi report run.json",
        "onnxmi report run.json --sweep sweep.json -o run.html",
        "onnxmi report sweep.json",
        "onnxmi report check.json",
    )
)
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--sweep", type=click.Path(path_type=Path), help="What `onnxmi sweep --json` printed: the trade-off curve."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write [default: RESULT.html].")
def report(result: Path, sweep: Path | None, output: Path | None) -> None:
    """Make one HTML page of RESULT, what prune, sweep, bench or check printed with --json.

    The page needs no network and no other file. It is made with jinja2 and matplotlib: pip install 'onnxmi[report]'.
    """
    html.require_extra()
    found = read_json(result)
    curve = None if sweep is None else (read_json(sweep), str(sweep))
    target = output or result.with_suffix(".html")
    check_target(target, result, *filter(None, [sweep]))
    write_atomically(target, html.render(found, str(result), curve))
    click.echo(printable(f"wrote {target}"))
