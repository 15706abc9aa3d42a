"""Options in a file: `onnxmi.toml` of the working directory has a table for each command, such as `[prune]`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from onnxmi.errors import DataError, UsageError

CONFIG = Path("onnxmi.toml")
TABLES = ("prune", "sweep", "bench", "check")  # the commands that read one
CONFIG_NOTE = "onnxmi.config_note"  # where the context keeps what is said of a file that nobody named
_NAMED, _IGNORED = "onnxmi.config", "onnxmi.no_config"  # and what was typed


def config_options(table: str) -> Callable[..., Any]:
    """Return the options `--config FILE` and `--no-config`: where options come from that are not typed."""

    def read_options(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
        searched = path is None and not ctx.meta.get(_IGNORED) and CONFIG.is_file()
        if ctx.resilient_parsing or not (path or searched):  # completion reads no files
            return
        if ctx.meta.get(_IGNORED):
            raise UsageError("--config and --no-config contradict each other")
        ctx.meta[_NAMED] = path
        values = read_config(path or CONFIG, table, {_spelling(own): own for own in _readable(ctx.command)}, ctx)
        if values is None and path is not None:
            raise DataError(f"{path}: has no table [{table}]")
        if values and path is None:
            names = ", ".join(_spelling(own) for own in _readable(ctx.command) if own.name in values)
            ctx.meta[CONFIG_NOTE] = f"{CONFIG} [{table}] gives {names} (--no-config ignores it)"
        ctx.default_map = values

    def ignore_options(ctx: click.Context, _param: click.Parameter, ignored: bool) -> None:  # noqa: FBT001  click calls it
        ctx.meta[_IGNORED] = ignored  # click calls first what was typed, in its order
        if ignored and ctx.meta.get(_NAMED):
            raise UsageError("--config and --no-config contradict each other")

    named = click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=read_options,
        help=f"Read options that are not given here from the table [{table}] of a TOML file "
        f"[default: {CONFIG}, if it is here].",
    )
    ignored = click.option(
        "--no-config",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=ignore_options,
        help=f"Do not read {CONFIG}.",
    )
    return lambda command: ignored(named(command))


def read_config(
    path: Path, table: str, parameters: Mapping[str, click.Parameter], ctx: click.Context
) -> dict[str, Any] | None:
    """Return a table of the file; paths in it are relative to the file's folder.

    Parameters
    ----------
    path : Path
        The file.
    table : str
        The name of the table.
    parameters : Mapping
        What may stand there: name as on the command line, without dashes in front, -> the parameter.
    ctx : click.Context
        Of the command, whose types read the values.

    Returns
    -------
    dict or None
        The name of the parameter in the program -> its value. None if the file has no such table.

    Raises
    ------
    DataError
        If the file cannot be read or is no TOML, or has tables, options or values that do not exist.
    """
    tables = _read_toml(path)
    # A file that was named may be one of another program's, with tables of its own beside ours.
    if path is CONFIG or table not in tables:
        _refuse_unknown(path, "table", tables, TABLES)
    if table not in tables:
        return None
    if not isinstance(values := tables[table], dict):
        raise DataError(f"{path}: {table} is not a table: expected [{table}]")
    _refuse_unknown(path, "option", values, parameters)
    return {
        str(parameters[name].name): _value(path, name, value, parameters[name], ctx) for name, value in values.items()
    }


def words_from_file(ctx: click.Context) -> list[str]:
    """Return what a file gave a command, as it would be typed."""
    words: list[str] = []
    for parameter in ctx.command.params:
        name = str(parameter.name)
        if ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
            value = (ctx.default_map or {})[name]
            words += _words(parameter, value)
    return words


def _words(parameter: click.Parameter, value: Any) -> Iterable[str]:
    values = [str(one) for one in value] if isinstance(value, list) else [str(value)]
    if isinstance(parameter, click.Argument):
        return values
    if isinstance(value, bool):
        return (parameter.opts if value else parameter.secondary_opts)[:1]
    return [word for one in values for word in (max(parameter.opts, key=len), one)]


def _readable(command: click.Command) -> list[click.Parameter]:
    """Return what may stand in a table: all but what says whether one is read, and what only helps to type."""
    return [own for own in command.params if own.name not in ("config", "no_config", "help", "version")]


def _spelling(parameter: click.Parameter) -> str:
    long = (option.removeprefix("--") for option in parameter.opts if option.startswith("--"))
    return next(long, str(parameter.name))


def _refuse_unknown(path: Path, noun: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise DataError(f"{path}: no {noun} {name!r}; {hint}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of the encoding, or of the format
        raise DataError(f"{path}: is not a valid TOML file: {error}") from error


def _value(path: Path, name: str, value: Any, parameter: click.Parameter, ctx: click.Context) -> Any:
    if parameter.multiple or parameter.nargs == -1:  # an option that is repeatable takes a list, or one value
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise DataError(f"{path}: {name} is neither text nor a list of texts")
    elif not isinstance(value, str | int | float):
        raise DataError(f"{path}: {name} is neither text nor a number nor true or false")
    if isinstance(parameter.type, click.Path):
        beside = [str(path.parent / str(one)) for one in (value if isinstance(value, list) else [value])]
        value = beside if isinstance(value, list) else beside[0]
    try:
        parameter.type_cast_value(ctx, value)
    except click.BadParameter as error:
        raise DataError(f"{path}: {name}: {error.message}") from error
    return value
