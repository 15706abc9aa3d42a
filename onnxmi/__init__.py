"""onnxmi: smaller and faster ONNX models by mutual information, without retraining.

>>> import onnxmi
>>> result = onnxmi.prune("model.onnx", "calib.npz", onnxmi.PruneOptions(keep=0.5))  # doctest: +SKIP
>>> onnxmi.save(result.proto, "model.pruned.onnx")  # doctest: +SKIP
"""

from onnxmi.calibration import Calibration, check_calibration, load_calibration
from onnxmi.errors import OnnxmiError
from onnxmi.measurement import Measurement, load_measurement, save_measurement
from onnxmi.model import Model, load, save
from onnxmi.pipeline import Analysis, PruneOptions, Result, analyse, apply, collect, prune
from onnxmi.plan import Plan, load_plan
from onnxmi.version import __version__

__all__ = [
    "Analysis",
    "Calibration",
    "Measurement",
    "Model",
    "OnnxmiError",
    "Plan",
    "PruneOptions",
    "Result",
    "__version__",
    "analyse",
    "apply",
    "check_calibration",
    "collect",
    "load",
    "load_calibration",
    "load_measurement",
    "load_plan",
    "prune",
    "save",
    "save_measurement",
]
