"""`onnxmi bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from onnxmi.benchmark.compare import BenchOptions
from onnxmi.benchmark.compare import bench as measure_models
from onnxmi.budget.units import SECONDS
from onnxmi.cli.arguments import CLOCK, JSON, Quantity
from onnxmi.cli.config import config_options
from onnxmi.cli.failures import epilog
from onnxmi.cli.pages import PAGE, check_page_option, write_page
from onnxmi.cli.samples import opened_if_given, sample_options
from onnxmi.cli.sizes import size_options
from onnxmi.cli.verbosity import print_data
from onnxmi.errors import UsageError
from onnxmi.reporting.benchmark import bench_csv, bench_data, show_bench
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.progress import progress_bars


class Counts(click.ParamType):  # type: ignore[type-arg]  # generic in later versions only
    """Whole numbers separated by commas."""

    name = "N,..."

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read "1,8,32"."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 1,8,32", param, ctx)
        if min(numbers) < self.least:
            self.fail(f"{min(numbers)} is below {self.least}", param, ctx)
        return tuple(dict.fromkeys(numbers))


@click.command(
    epilog=epilog(
        "onnxmi bench model.onnx model.pruned.onnx --threads 1",
        "onnxmi bench model.onnx model.int8.onnx --data eval.npz --batch 1,8,32",
        "onnxmi bench model.onnx model.pruned.onnx --steps   with its plan beside it",
        "onnxmi bench encoder.onnx --sequence 16,64,128 --csv > encoder.csv",
    )
)
@click.argument("models", metavar="MODEL...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--data", type=click.Path(path_type=Path), help="Samples, as for prune [default: synthetic inputs].")
@sample_options
@size_options
@click.option("--threads", type=Counts(0), default="0", help="Threads to try; 0 [default] for onnxruntime's choice.")
@click.option("--batch", type=Counts(1), default=(), help="Batch sizes to try [default: 1].")
@click.option("--sequence", type=Counts(1), default=(), help="Sizes to try of dynamic axes other than the batch.")
@click.option(
    "--seconds",
    type=Quantity(SECONDS, positive=True),
    default=5.0,
    metavar="S",
    show_default=True,
    help="Longest time for a setting, all models together.",
)
@CLOCK
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure the peak memory.")
@click.option("--operators/--no-operators", default=True, show_default=True, help="Show where the time goes.")
@click.option(
    "--steps", is_flag=True, help="MODELs are steps, as pruned and quantized: say what each did to the one before."
)
@config_options("bench")
@PAGE
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on standard output, a row for each model and setting.")
def bench(models: tuple[Path, ...], page: Path | None, *, as_json: bool, as_csv: bool, **settings: Any) -> None:
    """Measure MODELs side by side: time, memory, size, work, and where the time goes.

    The models run in turn, so that other load on the machine affects all of them alike. Speed-ups are against the
    first model, with 95 % confidence intervals. Each setting is measured until its intervals are within
    1 %, or for --seconds.

    Peak memory is what loading and running a model adds to a process of its own. Where the time goes is measured in
    the first setting, by onnxruntime's profiler, which slows small operators down.

    With --steps, a quantized MODEL whose plan is beside it brings along the float model that was quantized, unless that
    is given: so pruning and 8 bits are told apart.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv both want standard output; choose one")
    settings["data"] = opened_if_given(settings["data"], settings)
    check_page_option(page, *models)
    with progress_bars() as progress:
        found = measure_models(models, BenchOptions(**settings), progress)
    write_page(page, bench_data(found))
    if as_json:
        print_data(to_json(bench_data(found)))
    elif as_csv:
        print_data(bench_csv(found), end="")
    else:
        show_bench(Console(), found)
