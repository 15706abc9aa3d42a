"""The command line: arguments in, tables or JSON out. The only package that knows click; one module a command."""

from __future__ import annotations

import io
import sys
import warnings

import click

from onnxmi.cli.apply import apply
from onnxmi.cli.bench import bench
from onnxmi.cli.cache import cache
from onnxmi.cli.calib import calib
from onnxmi.cli.check import check
from onnxmi.cli.diff import diff
from onnxmi.cli.doctor import doctor
from onnxmi.cli.failures import OneLineGroup, epilog
from onnxmi.cli.inspect import inspect
from onnxmi.cli.prune import prune
from onnxmi.cli.report import report
from onnxmi.cli.signals import interruptible
from onnxmi.cli.statistics import capture, merge
from onnxmi.cli.sweep import sweep
from onnxmi.cli.verbosity import VERSION, before_command, with_verbosity
from onnxmi.runtime.session import silence


@click.group(
    "onnxmi",
    cls=OneLineGroup,
    no_args_is_help=False,
    epilog=epilog(
        "onnxmi prune model.onnx calib.npz               at most one point lost",
        "onnxmi prune model.onnx calib.npz --speedup 2   twice as fast",
        "onnxmi inspect model.onnx                       what can be cut, and why not",
        "onnxmi apply model.onnx model.pruned.plan.json  cut as a plan says",
        "onnxmi bench model.onnx model.pruned.onnx       time and memory of both",
        "onnxmi check model.pruned.onnx --max-size 9MB   fail if it is larger",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@VERSION
@click.pass_context
def main(ctx: click.Context) -> None:
    """Make ONNX models smaller and faster on a CPU, with nothing but the model and sample inputs."""
    ctx.with_resource(interruptible())
    # They speak to programmers, as of what overflows in numpy; where it matters, it is looked for.
    ctx.with_resource(warnings.catch_warnings(action="ignore"))
    silence()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character of a name gets a question mark


before_command(main)
for command in (prune, sweep, calib, capture, merge, inspect, apply, bench, check, diff, report, cache, doctor):
    main.add_command(with_verbosity(command))
