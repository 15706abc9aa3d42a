"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from onnxmi.budget.units import BYTES, FACTOR, MILLISECONDS, POINTS, SHARE, Unit, read_file_size, read_quantity
from onnxmi.errors import UsageError
from onnxmi.graph.channel_graph import KINDS
from onnxmi.graph.layer_filter import DEFAULT_KINDS
from onnxmi.outputs.override import FORM
from onnxmi.outputs.view import KINDS as OUTPUT_KINDS
from onnxmi.pruning.options import QUANTIZE
from onnxmi.quantization.recipe import HALF
from onnxmi.runtime.timing import CLOCKS
from onnxmi.selection.scores import ESTIMATORS, SCORES
from onnxmi.selection.top_down import TARGETS

MODEL = click.argument("model", type=click.Path(path_type=Path))
OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where to write [default: MODEL.pruned.onnx]."
)


def _names_a_file(text: str) -> bool:
    """Whether what is given as --output is a place to write to, not what an output is."""
    name, colon, rest = text.rpartition(":")
    return not (name and colon) or "/" in rest or "\\" in rest or rest.lower().endswith(".onnx")


def target_and_outputs(ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> Path | None:
    """Tell files from outputs: the file is returned, what outputs are becomes the parameter `outputs`."""
    files = [text for text in values if _names_a_file(text)]
    ctx.params["outputs"] = tuple(text for text in values if not _names_a_file(text))
    if len(files) > 1:
        raise click.BadParameter(f"{files[0]!r} and {files[1]!r}: one file is written")
    return Path(files[0]) if files else None


_WHAT_OUTPUTS_ARE = f"What an output is, if not what `onnxmi inspect` says ({', '.join(OUTPUT_KINDS)}); repeatable."
TARGET_AND_OUTPUTS = click.option(
    "-o",
    "--output",
    multiple=True,
    metavar=f"FILE|{FORM}",
    callback=target_and_outputs,
    help=f"Where to write [default: MODEL.pruned.onnx]. Or: {_WHAT_OUTPUTS_ARE[0].lower()}{_WHAT_OUTPUTS_ARE[1:]}",
)
OUTPUTS = click.option("--output", "outputs", multiple=True, metavar=FORM, help=_WHAT_OUTPUTS_ARE)
IGNORED_OUTPUTS = click.option(
    "--ignore-output", "ignore_outputs", multiple=True, metavar="NAME", help="Do not compare this output; repeatable."
)
FIXED_INPUTS = click.option(
    "--fix",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input that always has this value: leave out branches that are never taken then; repeatable.",
)
ALLOW_INTERFACE = click.option(
    "--allow-interface",
    is_flag=True,
    help="Cut units of states, too: inputs and outputs that are fed back become narrower.",
)
CALIBRATION = click.argument("calib", type=click.Path(path_type=Path))
SEED = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything random."
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="Threads of onnxruntime [default: its choice]."
)
BATCH_SIZE = click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples in a run."
)


def kinds(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split a comma-separated list of kinds."""
    return tuple(filter(None, (kind.strip() for kind in (value or "").split(","))))


class Quantity(click.ParamType):  # type: ignore[type-arg]  # generic in later versions only
    """A number with a unit."""

    name = "quantity"

    def __init__(self, unit: Unit, *, positive: bool = False) -> None:
        self.unit = unit
        self.positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a quantity such as 12MB."""
        try:
            quantity = read_quantity(value, self.unit)
        except UsageError as error:
            self.fail(str(error), param, ctx)
        if self.positive and not quantity > 0:
            self.fail(f"{value!r} is out of range: expected a {self.unit.noun} above 0", param, ctx)
        return quantity


class FileSize(click.ParamType):  # type: ignore[type-arg]  # generic in later versions only
    """The size of a file, or a share of the original's."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a size such as 12MB or 50%."""
        try:
            return read_file_size(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


MASK = click.option(
    "--mask", metavar="NAME", help='The input that is zero at padding [default: one with "mask" in its name].'
)
MEMORY = click.option(
    "--memory",
    metavar="SIZE",
    type=Quantity(BYTES),
    help="Memory that the run may take, such as 4GB: smaller batches and more passes [default: half of what is free].",
)
FRESH = click.option(
    "--fresh", is_flag=True, help="Measure anew what earlier runs have measured, and keep nothing for later ones."
)
TIMINGS = click.option(
    "--timings",
    metavar="FILE",
    type=click.Path(),
    help="Decide by the times in this plan of an earlier run instead of measuring them: the same bytes come out.",
)
STATISTICS = click.option(
    "--statistics",
    "--stats",
    "stats",
    type=click.Path(path_type=Path),
    help="Use the statistics that `onnxmi capture` collected.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output instead of tables.")


_BUDGETS = (
    click.option(
        "--keep", type=Quantity(SHARE), metavar="R", help="Share of every layer's units that stays, all layers alike."
    ),
    click.option("--max-size", metavar="SIZE", type=FileSize(), help="Largest file, such as 10MB, or 50%."),
    click.option("--params", type=Quantity(SHARE), metavar="R", help="Largest share of the parameters that stays."),
    click.option(
        "--macs", type=Quantity(SHARE), metavar="R", help="Largest share of the multiply-accumulates that stays."
    ),
    click.option("--speedup", type=Quantity(FACTOR), metavar="X", help="Smallest speed-up, measured on this machine."),
    click.option(
        "--latency",
        "--max-latency",
        "max_latency",
        metavar="TIME",
        type=Quantity(MILLISECONDS),
        help="Longest time of a run, such as 5ms, measured on this machine.",
    ),
    click.option(
        "--max-drop",
        type=Quantity(POINTS),
        metavar="D",
        help="Largest loss of the metric on test samples [default: 0.01 without a budget].",
    ),
    click.option("--best-effort", is_flag=True, help="Take the nearest result if a budget is out of reach."),
)
QUANTIZATION = click.option(
    "--quantize",
    type=click.Choice(QUANTIZE),
    default="none",
    show_default=True,
    help="Quantize to 8 bits, weights: to 4 without activations; auto: if and how it is fastest on this machine.",
)
HALF_STORAGE = click.option("--half", is_flag=True, help="Store numbers as float16: a smaller file, no faster on CPUs.")
METRIC = click.option(
    "--metric",
    metavar="NAME",
    help="accuracy, agreement, mse, cosine, f1, top5, ..., or module:function [default: accuracy with labels].",
)
ALIGN = click.option(
    "--align",
    default="auto",
    show_default=True,
    metavar="auto|N|none",
    help="Sizes that layers are cut to: hardware-friendly ones, multiples of N, or any.",
)
BATCH = click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Samples in a timed run."
)


def budgets(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is asked for, and in which units."""
    return _with(command, (*_BUDGETS, METRIC, ALIGN, BATCH))


_SCORING = (
    click.option(
        "--score", type=click.Choice(SCORES), default="joint", show_default=True, help="How units are scored."
    ),
    click.option(
        "--estimator",
        type=click.Choice(ESTIMATORS),
        default="gaussian",
        show_default=True,
        help="Estimator of the pairwise score.",
    ),
    click.option(
        "--target",
        type=click.Choice(TARGETS),
        default="outputs",
        show_default=True,
        help="What layers right below the outputs are scored against.",
    ),
    click.option(
        "--sensitivity/--no-sensitivity",
        default=True,
        show_default=True,
        help="Weight neurons by output sensitivity, or equally.",
    ),
)
_LAYER_CHOICE = (
    click.option("--repair/--no-repair", default=True, show_default=True, help="Refit the weights that lost inputs."),
    click.option(
        "--cut",
        metavar="KIND,...",
        callback=kinds,
        help=f"Kinds of layers to cut, of {', '.join(KINDS)} [default: {','.join(DEFAULT_KINDS)}]; "
        "naming embedding factorizes all embedding tables.",
    ),
    click.option("--skip", multiple=True, metavar="PATTERN", help="Ignore layers whose name matches; repeatable."),
    click.option("--only", multiple=True, metavar="PATTERN", help="Cut only layers whose name matches; repeatable."),
)
CLOCK = click.option(
    "--clock",
    type=click.Choice(list(CLOCKS)),
    default="wall",
    show_default=True,
    help="cpu: processor time, steadier on a busy machine; needs --threads 1.",
)


def scoring(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what a unit is worth."""
    return _with(command, _SCORING)


def layer_choice(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is cut and whether it is repaired."""
    return _with(command, _LAYER_CHOICE)


def _with(command: Callable[..., Any], options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Add options, the first of them first in the help."""
    for option in reversed(options):
        command = option(command)
    return command


def take_half(settings: dict[str, Any]) -> None:
    """Let `--half` say how the result is stored.

    Raises
    ------
    UsageError
        If `--quantize` says so, too.
    """
    if settings.pop("half"):
        if settings["quantize"] not in ("none", HALF):
            raise UsageError("--half and --quantize both say how the result is stored; choose one")
        settings["quantize"] = HALF
