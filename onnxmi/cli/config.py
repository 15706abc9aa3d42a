"""Options in a file, `onnxmi.toml`: a table for each command, such as `[check]` and `[prune]`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onnxmi.errors import DataError, UsageError


def config_option(table: str) -> Callable[..., Any]:
    """Return the option `--config FILE`, which reads what the command line does not give from a table of the file."""

    def use_config(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
        if path is not None:
            parameters = {_spelling(own): own for own in ctx.command.params if own.name not in ("config", "help")}
            values = read_config(path, table, parameters)
            ctx.default_map = {str(parameters[name].name): value for name, value in values.items()}

    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=use_config,
        help=f"Read options that are not given here from the table [{table}] of a TOML file.",
    )


def _spelling(parameter: click.Parameter) -> str:
    long = (option.removeprefix("--") for option in parameter.opts if option.startswith("--"))
    return next(long, str(parameter.name))


def read_config(path: Path, table: str, parameters: dict[str, click.Parameter]) -> dict[str, Any]:
    """Return a table of the file; paths in it are relative to the file's folder.

    Parameters
    ----------
    path : Path
        The file.
    table : str
        The name of the table.
    parameters : dict
        What may stand there: name as on the command line, without dashes in front, -> the parameter.

    Raises
    ------
    DataError
        If the file cannot be read, or is no TOML.
    UsageError
        If it has no such table, or options that do not exist.
    """
    values = _read_toml(path).get(table)
    if not isinstance(values, dict):
        raise UsageError(f"{path}: has no table [{table}]")
    unknown = [name for name in values if name not in parameters]
    if unknown:
        raise UsageError(f"{path}: no option {unknown[0]!r}; there are {', '.join(sorted(parameters))}")
    return {name: _value(path, name, value, parameters[name]) for name, value in values.items()}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of the encoding, or of the format
        raise DataError(f"{path}: is not a valid TOML file: {error}") from error


def _value(path: Path, name: str, value: Any, parameter: click.Parameter) -> Any:
    if parameter.multiple or parameter.nargs == -1:  # an option that is repeatable takes a list, or one value
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise UsageError(f"{path}: {name} is neither text nor a list of texts")
        return value
    if not isinstance(value, str | int | float):
        raise UsageError(f"{path}: {name} is neither text nor a number nor true or false")
    return str(path.parent / str(value)) if isinstance(parameter.type, click.Path) else value
