"""The exception tree, each failure with its exit code; and which stage of the work an exception comes from.

This module imports nothing of onnxmi, so that every other module can raise from it and say where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


class OnnxmiError(Exception):
    """Base of every error that onnxmi raises on purpose.

    Attributes
    ----------
    exit_code : int
        The exit code of the command line: 1 a check failed, 2 usage, 3 bad model or data, 4 internal invariant.
    """

    exit_code = 4


class CheckError(OnnxmiError):
    """A verification failed or a target was not reached: nothing was written."""

    exit_code = 1


class NothingToPruneError(CheckError):
    """The model has no layer that may be cut, or the selection left none."""


class UsageError(OnnxmiError):
    """The options contradict each other or name something that does not exist."""

    exit_code = 2


class DataError(OnnxmiError):
    """A file that was handed in cannot be used."""

    exit_code = 3


class ModelError(DataError):
    """The model file cannot be read, or onnxruntime cannot run it."""


class CalibrationError(DataError):
    """The calibration file does not fit the model."""


class StatisticsError(DataError):
    """The statistics file cannot be read, or does not fit the model, the options or another one."""


class PlanError(DataError):
    """The plan file cannot be read or does not fit the model."""


class InvariantError(OnnxmiError):
    """onnxmi contradicted itself: a bug, to be reported."""

    exit_code = 4


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
