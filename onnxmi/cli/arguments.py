"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path

import click

MODEL = click.argument("model", type=click.Path(path_type=Path))
OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where to write [default: MODEL.pruned.onnx]."
)
CALIBRATION = click.argument("calib", type=click.Path(path_type=Path))
SEED = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For everything that is drawn."
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="Threads of onnxruntime [default: its choice]."
)
BATCH_SIZE = click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples a run."
)


def kinds(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split a comma-separated list of kinds."""
    return tuple(filter(None, (kind.strip() for kind in (value or "").split(","))))


def byte_count(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Read a size such as 4GB."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?) *([KMGT]?)(I?)B?", value.strip().upper())
    size = float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2] or " ") if found else 0.0
    if size < 1:
        raise click.BadParameter(f"{value!r} is not a size such as 500MB or 4GB")
    return int(size)


MASK = click.option(
    "--mask", metavar="NAME", help='The input that is zero at padding [default: one with "mask" in its name].'
)
MEMORY = click.option(
    "--memory",
    metavar="SIZE",
    callback=byte_count,
    help="What statistics may take at a time, such as 4GB; more passes where they need more [default: no limit].",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output instead of tables.")
