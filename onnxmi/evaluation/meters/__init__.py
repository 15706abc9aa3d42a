"""Metrics by the kind of output: what a cut model loses, in figures that people know."""

from onnxmi.evaluation.meters.margins import ExpectedFlips, expected_flips
from onnxmi.evaluation.meters.meter import Contributions, Meter, Reading, Subject, take
from onnxmi.evaluation.meters.table import METERS, find_meter, fits, meters_for, subjects

__all__ = [
    "METERS",
    "Contributions",
    "ExpectedFlips",
    "Meter",
    "Reading",
    "Subject",
    "expected_flips",
    "find_meter",
    "fits",
    "meters_for",
    "subjects",
    "take",
]
