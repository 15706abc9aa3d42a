"""Options that say the sizes of synthetic inputs: the same for every command that makes some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_SHAPE = click.option(
    "--shape", multiple=True, metavar="INPUT=N,...", help="The shape of a synthetic input, such as x=1,512; repeatable."
)
_DIM = click.option(
    "--dim", multiple=True, metavar="NAME=N", help="The size of a dynamic axis, such as T=512; repeatable."
)


def size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say the sizes of synthetic inputs."""
    return _SHAPE(_DIM(command))
