"""`onnxmi prune --allow-unchanged`: what is written where there is nothing to prune."""

from __future__ import annotations

from pathlib import Path

import click

from onnxmi.cli.verbosity import print_data
from onnxmi.graph.plan import Plan
from onnxmi.model import Model
from onnxmi.model.save import Content, files_of, write_together
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.tables import printable


def write_unchanged(source: Model, target: Path, plan_target: Path, reason: str, *, as_json: bool) -> None:
    """Write the model as it is, with a plan that cuts nothing, and say so.

    The file has the original's bytes; of a model with external data, the same nodes and values.
    """
    files: dict[Path, Content]
    if source.path is not None and not source.externals:
        files = {target: source.path.read_bytes()}
    else:
        files = files_of(source.proto, target, external=bool(source.externals))
    files[plan_target] = Plan(source.digest, (), {}).to_json().encode()
    write_together(files)
    if as_json:
        print_data(to_json({"output": str(target), "plan": str(plan_target), "unchanged": True, "reason": reason}))
    else:
        click.echo(printable(f"{reason}\nwrote {target}, the same as the original"))
