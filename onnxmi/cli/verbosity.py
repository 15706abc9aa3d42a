"""`-q`, `-v`, `--debug` and `--version`: what every command has."""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import click

from onnxmi.cli.config import CONFIG_NOTE
from onnxmi.cli.debug import bundled
from onnxmi.cli.failures import DATA_PRINTED
from onnxmi.errors import UsageError
from onnxmi.reporting.progress import verbosity
from onnxmi.version import versions

DATA = ("as_json", "as_csv")  # what is asked for as data is printed in any case, and alone
_DATA_GOES_TO = "onnxmi.data"  # where the context keeps the real standard output

QUIET = click.Option(["-q", "--quiet"], is_flag=True, help="Print errors and requested data only.")
BUNDLE = click.Option(
    ["--debug"],
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a bundle (.zip) for a bug report: no weights, no samples.",
)
VERBOSE = click.Option(["-v", "--verbose"], is_flag=True, help="Print each stage and when it began, on standard error.")
_LEVEL = "onnxmi.level"  # where the context keeps what was said before the command


def before_command(group: click.Group) -> click.Group:
    """Let `-q` and `-v` also stand before the command."""
    inner = group.callback
    assert inner is not None
    group.params += [QUIET, VERBOSE]

    @functools.wraps(inner)
    def callback(*args: Any, quiet: bool, verbose: bool, **options: Any) -> Any:
        click.get_current_context().meta[_LEVEL] = quiet, verbose
        return inner(*args, **options)

    group.callback = callback
    return group


def with_verbosity(command: click.Command) -> click.Command:
    """Give a command `-q`, `-v` and `--debug`."""
    inner = command.callback
    assert inner is not None
    command.params += [QUIET, VERBOSE, BUNDLE]
    command.callback = _heeding(inner)
    return command


def _heeding(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def callback(*args: Any, quiet: bool, verbose: bool, debug: Path | None, **options: Any) -> Any:
        before = click.get_current_context().meta.get(_LEVEL, (False, False))
        quiet, verbose = quiet or before[0], verbose or before[1]
        if quiet and verbose:
            raise UsageError("--quiet and --verbose contradict each other")
        if not quiet and (note := click.get_current_context().meta.get(CONFIG_NOTE)):
            click.echo(f"onnxmi: {note}", err=True)
        with ExitStack() as stack:
            stack.enter_context(verbosity(verbose - quiet))
            if debug is not None:
                stack.enter_context(bundled(debug, click.get_current_context()))
            click.get_current_context().meta[_DATA_GOES_TO] = sys.stdout
            if quiet:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
            elif any(options.get(name) for name in DATA):
                stack.enter_context(redirect_stdout(sys.stderr))
            return inner(*args, **options)

    return callback


def print_data(text: str, end: str = "\n") -> None:
    """Print what was asked for as data, on standard output; whatever else prints there then, goes elsewhere."""
    meta = click.get_current_context().meta
    meta[DATA_PRINTED] = True
    click.echo(text + end, nl=False, file=meta[_DATA_GOES_TO])


def show_versions(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  click calls it
    """Print the versions that a bug report needs, and end."""
    if not wanted or ctx.resilient_parsing:
        return
    for name, version in {**versions(), "python": platform.python_version()}.items():
        click.echo(f"{name} {version}")
    ctx.exit()


VERSION = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_versions,
    help="Show the versions of onnxmi and of its dependencies, and exit.",
)
