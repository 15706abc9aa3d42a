"""The command line: arguments in, tables or JSON out. The only module that knows click."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from onnxmi import pipeline, report
from onnxmi.errors import DataError, OnnxmiError, UsageError
from onnxmi.model.save import save, write_atomically
from onnxmi.scoring import ESTIMATORS, SCORES
from onnxmi.version import __version__

INTERRUPTED = 130

_EXIT_CODES = """
\b
Exit codes:
  0  done
  1  a check failed, or there was nothing to prune: nothing was written
  2  wrong usage
  3  a model, calibration or plan file cannot be used
  4  onnxmi contradicted itself: please report it
"""


class _Command(click.Command):
    """A command whose expected failures are one line on standard error and a documented exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OnnxmiError as error:
            _fail(str(error), error.exit_code)
        except MemoryError:
            _fail("not enough memory", DataError.exit_code)
        except (KeyboardInterrupt, EOFError):
            _fail("interrupted", INTERRUPTED)


def _fail(message: str, code: int) -> None:
    printable = "".join(char if char.isprintable() else "?" for char in " ".join(message.split()))
    click.echo(f"onnxmi: error: {printable}", err=True)
    raise SystemExit(code)


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="onnxmi")
def main() -> None:
    r"""Make ONNX models smaller and faster on a CPU, with nothing but the model and sample inputs.

    \b
    Examples:
      onnxmi prune model.onnx calib.npz              half of every layer, to model.pruned.onnx
      onnxmi prune model.onnx calib.npz --keep 0.3   keep 30 %
      onnxmi inspect model.onnx                      what can be cut, and what not and why
    """


_model = click.argument("model", type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output instead of tables.")


@main.command(cls=_Command, epilog=_EXIT_CODES)
@_model
@click.argument("calib", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write [default: MODEL.pruned.onnx].")
@click.option("--keep", type=float, default=0.5, show_default=True, help="Share of every layer's units that stays.")
@click.option("--score", type=click.Choice(SCORES), default="joint", show_default=True, help="What a unit is worth.")
@click.option(
    "--estimator", type=click.Choice(ESTIMATORS), default="gaussian", show_default=True, help="Of the pairwise score."
)
@click.option("--repair/--no-repair", default=True, show_default=True, help="Refit the weights that lost inputs.")
@click.option(
    "--skip", multiple=True, metavar="PATTERN", help="Leave layers alone whose name matches; may be repeated."
)
@click.option("--only", multiple=True, metavar="PATTERN", help="Cut only layers whose name matches; may be repeated.")
@click.option("--plan", type=click.Path(path_type=Path), help="Cut what this plan file says instead of selecting.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For everything that is drawn.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Threads of onnxruntime [default: its choice].")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples a run.")
@_json
def prune(model: Path, calib: Path, output: Path | None, plan: Path | None, as_json: bool, **settings: Any) -> None:
    r"""Cut MODEL down, using the sample inputs in CALIB.

    CALIB is an .npz file whose arrays are named as the model's inputs, samples on the first axis; an array `labels`
    with one class a sample is optional and used for reporting only. The result is written beside MODEL as
    MODEL.pruned.onnx with its plan MODEL.pruned.plan.json, and only if every check on it passes.

    \b
    Examples:
      onnxmi prune model.onnx calib.npz --keep 0.5
      onnxmi prune model.onnx calib.npz --skip '*/attention/*' -o small.onnx
      onnxmi prune model.onnx calib.npz --plan edited.plan.json
    """
    target = output or model.with_suffix(".pruned.onnx")
    _check_target(target, model, calib)
    options = pipeline.PruneOptions(**settings)
    with _progress() as advance:
        result = pipeline.prune(model, calib, options, plan=plan, progress=advance)
    plan_path = target.with_suffix(".plan.json")
    save(result.proto, target)
    write_atomically(plan_path, result.plan.to_json().encode())
    _emit(as_json, {"output": str(target), "plan": str(plan_path), **report.result_data(result)}, result, target)


def _emit(as_json: bool, data: dict[str, Any], result: pipeline.Result, target: Path) -> None:
    if as_json:
        click.echo(json.dumps(data, indent=1))
        return
    console = Console(soft_wrap=False)
    report.show_result(console, result)
    console.print(f"wrote {data['output']} and {data['plan']}", markup=False, highlight=False, soft_wrap=True)


@main.command(cls=_Command, epilog=_EXIT_CODES)
@_model
@_json
def inspect(model: Path, as_json: bool) -> None:
    """Show what can be cut in MODEL, layer by layer, and what cannot and why."""
    analysis = pipeline.analyse(model)
    if as_json:
        click.echo(json.dumps(report.graph_data(analysis), indent=1))
    else:
        report.show_graph(Console(), analysis)


@main.command(cls=_Command, epilog=_EXIT_CODES)
@_model
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write [default: MODEL.pruned.onnx].")
def apply(model: Path, plan: Path, output: Path | None) -> None:
    """Cut MODEL by a PLAN file, without calibration data and so without repair.

    The plan must be for exactly this model; the same plan gives the same bytes. To repair as well, use
    `onnxmi prune MODEL CALIB --plan PLAN`.
    """
    target = output or model.with_suffix(".pruned.onnx")
    _check_target(target, model, plan)
    proto, checks = pipeline.apply(model, plan)
    size = save(proto, target)
    click.echo(f"wrote {target} ({size:,} bytes); {len(checks)} checks passed; not repaired")


def _check_target(target: Path, *sources: Path) -> None:
    """Refuse early what would fail after the work is done."""
    if not target.parent.is_dir():
        raise DataError(f"{target}: its folder does not exist")
    if target.is_dir():
        raise DataError(f"{target}: is a folder")
    if any(target.resolve() == source.resolve() for source in sources):
        raise UsageError(f"{target}: is also an input; choose another output with -o")


class _progress:  # noqa: N801 - used as a function
    """A progress bar a stage, on standard error, and only on a terminal."""

    def __enter__(self) -> Callable[[str, int, int], None]:
        self._bars = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._tasks: dict[str, Any] = {}
        self._bars.start()
        return self._advance

    def _advance(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
