"""onnxmi: smaller and faster ONNX models by mutual information, without retraining.

>>> import onnxmi
>>> result = onnxmi.prune("model.onnx", "calib.npz", onnxmi.PruneOptions(keep=0.5))  # doctest: +SKIP
>>> onnxmi.save(result.proto, "model.pruned.onnx")  # doctest: +SKIP
"""

from importlib import import_module

TYPE_CHECKING = False  # as `typing` has it, without the time that importing it takes; see `_HOMES`
if TYPE_CHECKING:
    from onnxmi.data.calibration import Calibration, check_calibration, load_calibration
    from onnxmi.errors import OnnxmiError
    from onnxmi.graph.plan import Plan, load_plan
    from onnxmi.model import Model, load, save
    from onnxmi.pruning.api import Analysis, PruneOptions, Result, analyse, analyze, apply, collect, prune, sweep
    from onnxmi.statistics.statistics_file import Measurement, load_measurement, save_measurement
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
    "analyze",
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
    "Analysis": "onnxmi.pruning.api",
    "Calibration": "onnxmi.data.calibration",
    "Measurement": "onnxmi.statistics.statistics_file",
    "Model": "onnxmi.model",
    "OnnxmiError": "onnxmi.errors",
    "Plan": "onnxmi.graph.plan",
    "PruneOptions": "onnxmi.pruning.api",
    "Result": "onnxmi.pruning.api",
    "__version__": "onnxmi.version",
    "analyse": "onnxmi.pruning.api",
    "analyze": "onnxmi.pruning.api",
    "apply": "onnxmi.pruning.api",
    "check_calibration": "onnxmi.data.calibration",
    "collect": "onnxmi.pruning.api",
    "load": "onnxmi.model",
    "load_calibration": "onnxmi.data.calibration",
    "load_measurement": "onnxmi.statistics.statistics_file",
    "load_plan": "onnxmi.graph.plan",
    "prune": "onnxmi.pruning.api",
    "save": "onnxmi.model",
    "save_measurement": "onnxmi.statistics.statistics_file",
    "sweep": "onnxmi.pruning.api",
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
