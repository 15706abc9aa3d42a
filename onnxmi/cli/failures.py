"""How a run ends that cannot go on: one line on standard error and a documented exit code."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from onnxmi.cli.config import words_from_file
from onnxmi.cli.signals import INTERRUPTED, Interrupted
from onnxmi.errors import DataError, InvariantError, OnnxmiError, UsageError, place_of
from onnxmi.reporting.json_data import to_json
from onnxmi.reporting.tables import printable

TRACEBACK = "ONNXMI_TRACEBACK"  # set in the environment, it shows where an internal error comes from

PLACES = ("--dask", "--shared", "--latency-worker")  # options that say where other machines are
_TYPED = "onnxmi.typed"  # where the context keeps the arguments
DEBUG = "onnxmi.debug"  # and where --debug writes its bundle
DATA_PRINTED = "onnxmi.data_printed"  # and whether data went to standard output

_EXIT_CODES = """Exit codes:
  0  done
  1  a check failed, or there was nothing to prune: nothing was written
  2  wrong usage
  3  a file cannot be used, or the result cannot be written
  4  a bug in onnxmi: please report it
  130  interrupted
"""


def epilog(*examples: str) -> str:
    """End a help text with examples and the exit codes, not wrapped."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExamples:\n{lines}\n\n\b\n{_EXIT_CODES}"


def command_line(ctx: click.Context) -> str:
    """Return what was typed or came from a file, quoted for a shell.

    Results are passed on, so addresses of other machines are left out.
    """
    typed = iter([*ctx.meta[_TYPED], *words_from_file(ctx)])
    shown: list[str] = []
    for word in typed:
        if word in PLACES:
            shown += [word, "..."] if next(typed, None) is not None else [word]
        else:
            name, equals, _ = word.partition("=")
            shown.append(f"{name}=..." if equals and name in PLACES else word)
    return shlex.join(shown)


class OneLineGroup(click.Group):
    """A group whose failures are one line on standard error and a documented exit code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments, and remember them for `command_line`."""
        typed = ["onnxmi", *args]
        with _failures_in_one_line(as_json="--json" in args):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_TYPED] = typed
        return context

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help where no command is given, and take `help COMMAND` for `COMMAND --help`."""
        if not ctx.resilient_parsing and (not args or args[0] == "help"):  # completion parses no arguments
            args = [*args[1:2], "--help"]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their whole first sentences."""
        rows = [(name, self.commands[name].get_short_help_str(limit=1000)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and say what may have been meant where there is none of this name."""
        name = args[0]
        if name in self.commands or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = get_close_matches(name, self.commands, 1)
        if name.endswith(".onnx"):
            ctx.fail(f"{name!r} is not a command; did you mean `onnxmi inspect {shlex.quote(name)}`, or prune?")
        ctx.fail(f"no such command {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _failures_in_one_line(as_json="--json" in ctx.meta[_TYPED]):
            return super().invoke(ctx)


@contextmanager
def _failures_in_one_line(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except click.exceptions.Exit:
        raise
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read our output has gone: click ends quietly
            raise
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", DataError.exit_code, as_json=as_json)
    except (Exception, KeyboardInterrupt, Interrupted) as error:
        message, code = _described(error)
        if code == InvariantError.exit_code and not isinstance(error, OnnxmiError) and os.environ.get(TRACEBACK):
            raise
        _fail(message, code, as_json=as_json)


def _described(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code of what ended a run."""
    if isinstance(error, OnnxmiError):
        return (_bug(error) if error.exit_code == InvariantError.exit_code else str(error)), error.exit_code
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "onnxmi"
        return f"{error.format_message()} (`{command} --help` explains)", UsageError.exit_code
    if isinstance(error, MemoryError):
        return "not enough memory", DataError.exit_code
    if isinstance(error, Interrupted | KeyboardInterrupt | EOFError):
        return "interrupted", INTERRUPTED
    return _bug(error), InvariantError.exit_code


def _bug(error: BaseException) -> str:
    """Say where an error that nobody foresaw comes from, and what of it to send."""
    context = click.get_current_context(silent=True)
    bundle = context.meta.get(DEBUG) if context is not None else None
    cure = f"please send {bundle}" if bundle else "run again with --debug FILE to make a bundle that you can send"
    place = ": ".join(filter(None, [place_of(error), type(error).__name__]))
    return f"a bug in onnxmi: {place}: {error}; {cure}"


def _fail(message: str, code: int, *, as_json: bool) -> NoReturn:
    text = printable(" ".join(message.split()))
    context = click.get_current_context(silent=True)
    if as_json and not (context is not None and context.meta.get(DATA_PRINTED)):  # a failed check has printed its data
        click.echo(to_json({"error": {"message": text, "exit_code": code}}))
    click.echo(f"onnxmi: error: {text}", err=True)
    raise SystemExit(code)
