"""onnxmi: smaller and faster ONNX models by mutual information, without retraining.

>>> import onnxmi
>>> result = onnxmi.prune("model.onnx", "calib.npz", onnxmi.PruneOptions(keep=0.5))  # doctest: +SKIP
>>> onnxmi.save(result.proto, "model.pruned.onnx")  # doctest: +SKIP
"""

from importlib import import_module

TYPE_CHECKING = False  # as `typing` has it, without the time that importing it takes; see `_HOMES`
if TYPE_CHECKING:
    from onnxmi.calibration import Calibration, check_calibration, load_calibration
    from onnxmi.errors import OnnxmiError
    from onnxmi.measurement import Measurement, load_measurement, save_measurement
    from onnxmi.model import Model, load, save
    from onnxmi.pipeline import Analysis, PruneOptions, Result, analyse, apply, collect, prune, sweep
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
    "sweep",
]

# Where each name is, so that it is imported when it is asked for: the command line has to look after Ctrl-C before
# onnx, onnxruntime and numpy are loaded, which takes a second.
_HOMES = {
    "Analysis": "onnxmi.pipeline",
    "Calibration": "onnxmi.calibration",
    "Measurement": "onnxmi.measurement",
    "Model": "onnxmi.model",
    "OnnxmiError": "onnxmi.errors",
    "Plan": "onnxmi.plan",
    "PruneOptions": "onnxmi.pipeline",
    "Result": "onnxmi.pipeline",
    "__version__": "onnxmi.version",
    "analyse": "onnxmi.pipeline",
    "apply": "onnxmi.pipeline",
    "check_calibration": "onnxmi.calibration",
    "collect": "onnxmi.pipeline",
    "load": "onnxmi.model",
    "load_calibration": "onnxmi.calibration",
    "load_measurement": "onnxmi.measurement",
    "load_plan": "onnxmi.plan",
    "prune": "onnxmi.pipeline",
    "save": "onnxmi.model",
    "save_measurement": "onnxmi.measurement",
    "sweep": "onnxmi.pipeline",
}


def __getattr__(name: str) -> object:
    """Import a name of the package."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """Names of the package, also those that are not imported yet."""
    return sorted({*globals(), *_HOMES})
