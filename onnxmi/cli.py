"""The command line: arguments in, tables or JSON out. The only module that knows click."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from rich.console import Console

from onnxmi import pipeline, report
from onnxmi.choose_layers import DEFAULT_KINDS
from onnxmi.dims.channel_graph import KINDS
from onnxmi.errors import DataError, InvariantError, OnnxmiError, UsageError
from onnxmi.measurement import Measurement, merge_files, save_measurement
from onnxmi.model import Model, load
from onnxmi.model.save import Content, contents, data_path, refuse_links, save, write_together
from onnxmi.progress import progress_bars
from onnxmi.report_data import graph_data, result_data, to_json
from onnxmi.scoring import ESTIMATORS, SCORES
from onnxmi.select_channels import TARGETS
from onnxmi.version import __version__

INTERRUPTED = 130  # as shells report a program that Ctrl-C ended
TRACEBACK = "ONNXMI_TRACEBACK"  # set in the environment, it shows where an internal error comes from

_EXIT_CODES = """Exit codes:
  0  done
  1  a check failed, or there was nothing to prune: nothing was written
  2  wrong usage
  3  a file cannot be used, or the result cannot be written
  4  onnxmi contradicted itself: please report it
"""


def _epilog(*examples: str) -> str:
    """End a help text with examples and the exit codes, not wrapped."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExamples:\n{lines}\n\n\b\n{_EXIT_CODES}"


class _Main(click.Group):
    """A group whose failures are one line on standard error and a documented exit code."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _failures_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _failures_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    try:
        yield
    except OnnxmiError as error:
        _fail(str(error), error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "onnxmi"
        _fail(f"{error.format_message()} (`{command} --help` explains)", UsageError.exit_code)
    except MemoryError:
        _fail("not enough memory", DataError.exit_code)
    except (KeyboardInterrupt, EOFError):
        _fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read our output has gone: click ends quietly
            raise
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", DataError.exit_code)
    except click.exceptions.Exit:
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        message = f"{type(error).__name__}: {error} (a bug in onnxmi: please report it with what {TRACEBACK}=1 adds)"
        _fail(message, InvariantError.exit_code)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"onnxmi: error: {report.printable(' '.join(message.split()))}", err=True)
    raise SystemExit(code)


@click.group(
    "onnxmi",
    cls=_Main,
    no_args_is_help=False,
    epilog=_epilog(
        "onnxmi prune model.onnx calib.npz               keep half of every layer",
        "onnxmi prune model.onnx calib.npz --keep 0.3    keep 30 %",
        "onnxmi inspect model.onnx                       what can be cut, and why not",
        "onnxmi apply model.onnx model.pruned.plan.json  cut as a plan says",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="onnxmi")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Make ONNX models smaller and faster on a CPU, with nothing but the model and sample inputs."""
    ctx.with_resource(_terminable())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character of a name gets a question mark


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


_model = click.argument("model", type=click.Path(path_type=Path))
_output = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where to write [default: MODEL.pruned.onnx]."
)


_stats_output = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write the statistics."
)


def _kinds(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split a comma-separated list of kinds."""
    return tuple(filter(None, (kind.strip() for kind in (value or "").split(","))))


def _bytes(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Read a size such as 4GB."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?) *([KMGT]?)(I?)B?", value.strip().upper())
    size = float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2] or " ") if found else 0.0
    if size < 1:
        raise click.BadParameter(f"{value!r} is not a size such as 500MB or 4GB")
    return int(size)


_mask = click.option(
    "--mask", metavar="NAME", help='The input that is zero at padding [default: one with "mask" in its name].'
)
_memory = click.option(
    "--memory",
    metavar="SIZE",
    callback=_bytes,
    help="What statistics may take at a time, such as 4GB; more passes where they need more [default: no limit].",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output instead of tables.")


@main.command(
    epilog=_epilog(
        "onnxmi prune model.onnx calib.npz --keep 0.3",
        "onnxmi prune model.onnx calib.npz --skip '*/attention/*' -o small.onnx",
        "onnxmi prune model.onnx calib.npz --plan edited.plan.json",
    )
)
@_model
@click.argument("calib", type=click.Path(path_type=Path))
@_output
@click.option("--keep", type=float, default=0.5, show_default=True, help="Share of every layer's units that stays.")
@click.option("--score", type=click.Choice(SCORES), default="joint", show_default=True, help="What a unit is worth.")
@click.option(
    "--estimator", type=click.Choice(ESTIMATORS), default="gaussian", show_default=True, help="Of the pairwise score."
)
@click.option("--repair/--no-repair", default=True, show_default=True, help="Refit the weights that lost inputs.")
@click.option(
    "--cut",
    metavar="KIND,...",
    callback=_kinds,
    help=f"Kinds of layers to cut, of {', '.join(KINDS)} [default: {','.join(DEFAULT_KINDS)}].",
)
@click.option("--skip", multiple=True, metavar="PATTERN", help="Leave layers alone whose name matches; repeatable.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Cut only layers whose name matches; repeatable.")
@click.option("--plan", type=click.Path(path_type=Path), help="Cut what this plan file says instead of selecting.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For everything that is drawn.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Threads of onnxruntime [default: its choice].")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples a run.")
@_mask
@_memory
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="outputs",
    show_default=True,
    help="What layers right below the outputs are scored against.",
)
@click.option("--stats", type=click.Path(path_type=Path), help="Use what `onnxmi capture` measured.")
@_json
def prune(
    model: Path,
    calib: Path,
    output: Path | None,
    plan: Path | None,
    stats: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Cut MODEL down, using the sample inputs in CALIB.

    CALIB is an .npz file whose arrays are named as the model's inputs, samples on the first axis; an array `labels`
    with one class a sample is optional. The result is written beside MODEL as
    MODEL.pruned.onnx with its plan MODEL.pruned.plan.json, and only if every check on it passes.

    PATTERN is a shell pattern (*, ?, [abc]) for the names that `onnxmi inspect` prints.
    """
    if plan is not None:
        _refuse_beside_a_plan(click.get_current_context())
    target = output or _default_target(model)
    plan_target = target.with_suffix(".plan.json")
    _check_target(target, model, calib, *filter(None, [plan, stats]))
    _check_target(plan_target, model, calib, *filter(None, [stats]))
    options = pipeline.PruneOptions(**settings)
    options.check()
    source = load(model)
    _check_external(source, target, plan_target)
    with progress_bars() as progress:
        result = pipeline.prune(source, calib, options, plan=plan, statistics=stats, progress=progress)
    files: dict[Path, Content] = contents(result.proto, target, bool(source.externals))
    files[plan_target] = result.plan.to_json().encode()
    if plan is not None and plan.resolve() == plan_target.resolve():
        del files[plan_target]  # it says so already, and may have been edited by hand
    write_together(files)
    written = {"output": str(target), "plan": str(plan_target)}
    if data_path(target) in files:
        written["data"] = str(data_path(target))
    if as_json:
        click.echo(to_json({**written, **result_data(result)}))
        return
    report.show_result(console := Console(), result)
    for path in files:
        console.print(report.printable(f"wrote {path}"), markup=False, highlight=False, soft_wrap=True)


@main.command(epilog=_epilog("onnxmi capture model.onnx calib.npz -o model.stats.npz"))
@_model
@click.argument("calib", type=click.Path(path_type=Path))
@_stats_output
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For everything that is drawn.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Threads of onnxruntime [default: its choice].")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples a run.")
@_mask
@_memory
@_json
def capture(model: Path, calib: Path, output: Path, as_json: bool, **settings: Any) -> None:
    """Measure MODEL on the sample inputs in CALIB once, for many plans.

    Use the file with `onnxmi prune MODEL CALIB --stats STATS`, with the same seed and mask. A sample is measured, used
    for judging or held back by its content and the seed, in whatever file it is.
    """
    _check_target(output, model, calib)
    with progress_bars() as progress:
        measured = pipeline.collect(model, calib, pipeline.PruneOptions(**settings), progress)
    _show_measurement(output, measured, as_json)


@main.command(epilog=_epilog("onnxmi merge monday.stats.npz tuesday.stats.npz -o week.stats.npz"))
@click.argument("stats", type=click.Path(path_type=Path), nargs=-1, required=True)
@_stats_output
@_json
def merge(stats: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Add up STATS files that were measured on different samples of one model.

    The result is what one measurement of all samples gives, up to rounding, where no rows were left out; where they
    were, it has the rows that each part drew.
    """
    _check_target(output)
    _show_measurement(output, merge_files(stats), as_json)


def _show_measurement(output: Path, measured: Measurement, as_json: bool) -> None:
    size = save_measurement(measured, output)
    fewest, most = measured.fit.rows
    if as_json:
        shown = {"samples": measured.samples, "rows": [fewest, most], "options": dict(measured.options)}
        click.echo(to_json({"output": str(output), "bytes": size, **shown}))
        return
    rows = f"{measured.samples:,} samples, {fewest:,} to {most:,} rows a layer"
    click.echo(report.printable(f"wrote {output} ({size:,} bytes): {rows}"))


@main.command(epilog=_epilog("onnxmi inspect model.onnx --json | jq '.layers[].name'"))
@_model
@_json
def inspect(model: Path, as_json: bool) -> None:
    """Show what can be cut in MODEL, layer by layer, and what cannot and why."""
    analysis = pipeline.analyse(model)
    if as_json:
        click.echo(to_json(graph_data(analysis)))
    else:
        report.show_graph(Console(), analysis)


@main.command(epilog=_epilog("onnxmi apply model.onnx model.pruned.plan.json -o cut.onnx"))
@_model
@click.argument("plan", type=click.Path(path_type=Path))
@_output
@_json
def apply(model: Path, plan: Path, output: Path | None, as_json: bool) -> None:
    """Cut MODEL by a PLAN file, without calibration data and so without repair.

    The plan must be for exactly this model; the same plan gives the same bytes. To repair as well, use
    `onnxmi prune MODEL CALIB --plan PLAN`.
    """
    target = output or _default_target(model)
    _check_target(target, model, plan)
    source = load(model)
    _check_external(source, target)
    proto, checks = pipeline.apply(source, plan)
    size = save(proto, target, external=bool(source.externals))
    if as_json:
        click.echo(to_json({"output": str(target), "bytes": size, "checks": [vars(check) for check in checks]}))
    else:
        click.echo(report.printable(f"wrote {target} ({size:,} bytes); {len(checks)} checks passed; not repaired"))


def _refuse_beside_a_plan(ctx: click.Context) -> None:
    """A plan says what stays: options that say so too would be ignored."""
    for name in ("keep", "score", "estimator", "cut", "skip", "only"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"a plan says what stays: --{name} does not go with --plan")


def _default_target(model: Path) -> Path:
    return model.parent / f"{model.stem}.pruned.onnx"


def _check_external(source: Model, target: Path, *others: Path) -> None:
    """Refuse to write over the external data of the source, or where that of the result cannot go."""
    for path in (target, *others):
        _check_target(path, *source.externals)
    if source.externals:
        refuse_links(target, data_path(target))
        _check_target(data_path(target), *source.externals)


def _check_target(target: Path, *sources: Path) -> None:
    """Refuse early what would fail after the work is done."""
    folder = target.resolve().parent
    if not folder.is_dir():
        raise DataError(f"{target}: its folder does not exist")
    if target.is_dir():
        raise DataError(f"{target}: is a folder")
    if target.exists() and not target.is_file():
        raise DataError(f"{target}: exists and is not a regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{target}: its folder is not writable")
    if any(target.resolve() == source.resolve() for source in sources):
        raise UsageError(f"{target}: is also an input; choose another output with -o")
