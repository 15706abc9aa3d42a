"""`onnxmi apply`."""

from __future__ import annotations

from pathlib import Path

import click

from onnxmi.api.targets import check_external, check_target, default_target
from onnxmi.cli.arguments import JSON, MODEL, OUTPUT
from onnxmi.cli.failures import epilog
from onnxmi.cli.places import OVERWRITE, refuse_to_replace
from onnxmi.cli.sizes import size_options
from onnxmi.cli.verbosity import print_data
from onnxmi.model import load
from onnxmi.model.save import save
from onnxmi.pruning import apply_plan
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.tables import printable
from onnxmi.runtime.synthetic import read_sizes


@click.command(epilog=epilog("onnxmi apply model.onnx model.pruned.plan.json -o cut.onnx"))
@MODEL
@click.argument("plan", type=click.Path(path_type=Path))
@OUTPUT
@size_options
@OVERWRITE
@JSON
def apply(
    model: Path,
    plan: Path,
    output: Path | None,
    shape: tuple[str, ...],
    dim: tuple[str, ...],
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Cut MODEL by a PLAN file, without calibration data and so without repair.

    The cut is verified on synthetic inputs: of the sizes that are given, or else of some that MODEL runs on. The plan
    must be for exactly this model; the same plan gives the same bytes. To repair as well, use
    `onnxmi prune MODEL CALIB --plan PLAN`.
    """
    target = output or default_target(model)
    check_target(target, model, plan)
    if not overwrite:
        refuse_to_replace(target)
    source = load(model)
    check_external(source, target)
    result = apply_plan.apply(source, plan, read_sizes(shape, dim))
    checks = result.checks
    size = save(result.proto, target, external=bool(source.externals))
    if as_json:
        print_data(to_json({"output": str(target), "bytes": size, "checks": [vars(check) for check in checks]}))
    else:
        click.echo(printable(f"wrote {target} ({size:,} bytes); {len(checks)} checks passed; not repaired"))
