"""Options that say how samples are read: the same for every command that takes some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from onnxmi.data.sources import SampleSource, source, source_options
from onnxmi.data.sources.options import LAYOUTS, SourceFields
from onnxmi.data.sources.sequences import ALL

_OPTIONS = (
    click.option("--image", metavar="HxW", help="Images: their size [default: that of the model's input]."),
    click.option("--mean", metavar="M,...", help="Images: what is subtracted, after the scale; one or one a channel."),
    click.option("--std", metavar="S,...", help="Images: what is then divided by."),
    click.option(
        "--scale",
        type=float,
        help="Images: what pixels, 0 to 255, are multiplied with [default: 1/255, integers 1].",
    ),
    click.option(
        "--layout", type=click.Choice(LAYOUTS), help="Images: where the channels are [default: as the model's input]."
    ),
    click.option("--tokenizer", type=click.Path(path_type=Path), help="Texts: a tokenizer.json."),
    click.option("--column", "columns", metavar="NAME[,NAME]", help="Tables: the column of texts, or two for pairs."),
    click.option("--label-column", metavar="NAME", help="Tables: the column of classes."),
    click.option("--length", type=click.IntRange(min=1), help="Texts: most tokens. Sounds: entries of a window."),
    click.option("--rate", type=click.IntRange(min=1), metavar="HZ", help="Sounds: the rate that they must have."),
    click.option(
        "--sample-axis",
        multiple=True,
        metavar="INPUT=AXIS",
        help="Where an input has its samples [default: on the model's batch axis]; repeatable.",
    ),
)


_VALUES = click.option(
    "--value",
    "values",
    multiple=True,
    metavar="INPUT=N",
    help="A number that an input is for all samples, such as sr=16000; repeatable.",
)
_STATES = click.option(
    "--state",
    "states",
    multiple=True,
    metavar="OUTPUT=INPUT",
    help="Which output is fed back as which input, beside --sequence [default: as names tell]; repeatable.",
)


def sample_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how samples are read.

    `--sequence` has another meaning where inputs are timed: there it is spelled `--sequences` alone.
    """
    known = {spelling for option in getattr(command, "__click_params__", ()) for spelling in option.opts}
    spellings = ("--sequences",) if "--sequence" in known else ("--sequence", "--sequences")
    sequences = click.option(
        *spellings,
        "sequences",
        is_flag=False,
        flag_value=ALL,
        default="",
        metavar="[IDS]",
        help="Samples follow each other, and states are run on. IDS: an .npy file or array with a number for each.",
    )
    for option in reversed((*_OPTIONS, _VALUES, sequences, _STATES)):
        command = option(command)
    return command


def opened(path: Path, settings: dict[str, Any]) -> SampleSource:
    """Return the samples at a path, and take what says how to read them out of a command's settings."""
    return source(path, **_taken(settings))


def opened_if_given(path: Path | None, settings: dict[str, Any]) -> SampleSource | None:
    """Do so for a command that needs no samples; wrong options are refused in any case."""
    options = source_options(_taken(settings))
    return None if path is None else SampleSource(path, options)


def typed_options(context: click.Context) -> tuple[str, ...]:
    """Return the words of a command line that say how its samples are read."""
    words: list[str] = []
    for option in context.command.params:
        typed = context.get_parameter_source(option.name or "") is not ParameterSource.DEFAULT
        if option.name in SourceFields.__annotations__ and typed:
            value = context.params[option.name]
            for one in value if isinstance(value, tuple) else (value,):
                words += [max(option.opts, key=len)] if one == ALL else [max(option.opts, key=len), str(one)]
    return tuple(words)


def _taken(settings: dict[str, Any]) -> SourceFields:
    fields = {name: settings.pop(name) for name in SourceFields.__annotations__}
    given = [name for name, value in fields.items() if value not in (None, (), "")]
    return cast(SourceFields, {name: fields[name] for name in given})
