"""Which stage of the work an unexpected exception comes from, and which operator or layer it was about.

This module imports nothing of onnxmi, so that every other module can say where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_KEPT = "_onnxmi_stages"  # where an exception keeps the stages that it went through


@dataclass(frozen=True)
class Stage:
    """A stage of the work, and the operator or layer that it was at, if it goes from one to the next."""

    name: str
    at: str = ""


@contextmanager
def stage(name: str, at: str = "") -> Iterator[None]:
    """Have exceptions that leave the block, or the function that this decorates, tell the stage."""
    try:
        yield
    except Exception as error:
        with suppress(AttributeError):  # some exceptions of extension modules take no attributes
            setattr(error, _KEPT, (*stages_of(error), Stage(name, at)))
        raise


def stages_of(error: BaseException) -> tuple[Stage, ...]:
    """Return the stages that an exception has left, the innermost first."""
    found: tuple[Stage, ...] = getattr(error, _KEPT, ())
    return found


def place_of(error: BaseException) -> str:
    """Return the innermost stage and the innermost operator or layer, in words; "" where neither is known."""
    stages = stages_of(error)
    at = next((found.at for found in stages if found.at), "")
    return ", ".join(filter(None, [stages[0].name if stages else "", at]))
