"""`onnxmi check`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from onnxmi.api.targets import check_target
from onnxmi.budget.units import SECONDS
from onnxmi.cli.arguments import CLOCK, IGNORED_OUTPUTS, JSON, OUTPUTS, THREADS, Quantity
from onnxmi.cli.config import config_options
from onnxmi.cli.failures import epilog
from onnxmi.cli.pages import PAGE, check_page_option, write_page
from onnxmi.cli.samples import opened_if_given, sample_options
from onnxmi.cli.sizes import size_options
from onnxmi.cli.verbosity import print_data
from onnxmi.cli.workers import Choice, timing_worker_option, worker_options
from onnxmi.errors import CheckError, UsageError
from onnxmi.gate.check import CheckOptions
from onnxmi.gate.check_by import check_by
from onnxmi.gate.limits import LIMITS, RULE
from onnxmi.gate.report import Report
from onnxmi.model.save import write_atomically
from onnxmi.reporting.gate import check_data, check_markdown, github_annotations, junit_xml, show_check
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.progress import progress_bars


def _limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each limit there is."""
    for name, limit in reversed(list(LIMITS.items())):
        needs = f" (needs {', '.join(f'--{need}' for need in limit.needs)})" if limit.needs else ""
        kind = Quantity(limit.unit)
        option = click.option(f"--{name}", type=kind, metavar=limit.unit.example, help=f"{limit.help}{needs}.")
        command = option(command)
    return command


@click.command(
    epilog=epilog(
        "onnxmi check model.onnx --max-size 12MB --max-latency 8ms --threads 1",
        "onnxmi check new.onnx --baseline old.onnx --min-speedup 1.5 --threads 1",
        "onnxmi check new.onnx --baseline old.onnx --data eval.npz --max-drop 0.01",
        "onnxmi check int8.onnx --baseline old.onnx --between cut.onnx --max-size 9MB",
        "onnxmi check --config onnxmi.toml --junit check.xml",
    ),
    help=f"""Compare MODEL with limits: a gate for a build, or before a release.

    At least one limit is needed. Besides, the model has to run to finite values, and with --baseline its inputs and
    outputs must be that model's. Exits with 0 if every check passes and with 1 if one fails.

    {RULE} Models run in turn until their intervals are within 1 %, or for --seconds.

    On GitHub, a summary is added to the job's page, and failures to that of the change.
    """,
)
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--baseline", type=click.Path(path_type=Path), help="The model that MODEL is to replace.")
@click.option(
    "--between",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A model on the way from the baseline, as the pruned one that was quantized: show what each step did.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Samples as for prune, and labels if there are any.")
@sample_options
@size_options
@_limit_options
@click.option(
    "--metric",
    metavar="METRIC",
    help="One of docs/gate.md, topK, or your own module:function [default: that of each output's kind].",
)
@OUTPUTS
@IGNORED_OUTPUTS
@click.option("--strict", is_flag=True, help="Pass only what is certain: the whole interval within the limit.")
@THREADS
@click.option("--batch", type=click.IntRange(min=1), help="Samples in a timed run [default: 1].")
@click.option("--sequence", type=click.IntRange(min=1), help="Size of dynamic axes other than the batch.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples in a run for --max-drop."
)
@click.option(
    "--seconds",
    type=Quantity(SECONDS, positive=True),
    default=20.0,
    metavar="S",
    show_default=True,
    help="Longest time for timing.",
)
@CLOCK
@click.option("--junit", type=click.Path(path_type=Path), help="Also write the verdicts as JUnit XML.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write them as Markdown.")
@PAGE
@worker_options
@timing_worker_option
@config_options("check")
@JSON
def check(
    model: Path | None,
    junit: Path | None,
    markdown: Path | None,
    page: Path | None,
    *,
    as_json: bool,
    **settings: Any,
) -> None:
    """Hold MODEL against limits."""
    if model is None:
        raise UsageError("Missing argument 'MODEL' (or `model` in the file of --config)")
    choice, data = Choice.taken(settings), settings["data"]
    settings["data"] = opened_if_given(data, settings)
    limits = {name: bound for name in LIMITS if (bound := settings.pop(name.replace("-", "_"))) is not None}
    options = CheckOptions(limits=limits, **settings)
    options.require()
    read = [path for path in (model, settings["baseline"], data, *settings["between"]) if path is not None]
    for target in filter(None, (junit, markdown)):
        check_target(target, *read)
    check_page_option(page, *read)
    with progress_bars() as progress, choice.opened() as workers:
        report = check_by(workers, model, options, progress)
    _write(report, junit, markdown)
    write_page(page, check_data(report))
    if as_json:
        print_data(to_json(check_data(report)))
    else:
        show_check(Console(), report)
    if not report.passed:
        failed = ", ".join(verdict.name for verdict in report.failed)
        raise CheckError(f"{len(report.failed)} of {len(report.verdicts)} checks failed: {failed}")


def _write(report: Report, junit: Path | None, markdown: Path | None) -> None:
    if junit is not None:
        write_atomically(junit, junit_xml(report))
    if markdown is not None:
        write_atomically(markdown, check_markdown(report).encode())
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:  # other steps write to it, too
        with open(page, "a", encoding="utf-8") as stream:
            stream.write(check_markdown(report))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(report):
            click.echo(line, err=True)  # standard output may be data; GitHub reads both
