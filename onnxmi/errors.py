"""The exception tree: every failure a user can cause or meet is one of these, each with its exit code.

This module imports nothing of onnxmi, so that every other module can raise from it.
"""

from __future__ import annotations


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
