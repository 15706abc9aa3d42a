"""Repair: closed-form least squares for every linear operator that a cut touches."""

from onnxmi.repair.choose import OutputComparison, repair
from onnxmi.repair.one_pass import repair_one_pass
from onnxmi.repair.regression import Repaired, RepairNote
from onnxmi.repair.samples import RepairSamples
from onnxmi.repair.stepwise import StepOptions, repair_stepwise

__all__ = [
    "OutputComparison",
    "RepairNote",
    "RepairSamples",
    "Repaired",
    "StepOptions",
    "repair",
    "repair_one_pass",
    "repair_stepwise",
]
