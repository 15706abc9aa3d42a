"""onnxmi: smaller and faster ONNX models by mutual information, without retraining.

>>> import onnxmi
>>> result = onnxmi.prune("model.onnx", "calib.npz", speedup=2, output="small.onnx")  # doctest: +SKIP
>>> print(result)  # doctest: +SKIP

The public names are those of `onnxmi.api`.
"""

from importlib import import_module

TYPE_CHECKING = False  # as `typing` has it, without the time that importing it takes
if TYPE_CHECKING:
    from onnxmi.api import *  # noqa: F403
    from onnxmi.version import __version__ as __version__
else:
    # Names are imported when they are asked for: the command line has to look after Ctrl-C before onnx, onnxruntime and
    # numpy are loaded, which takes a second.

    def __getattr__(name):
        """Import a public name."""
        if name == "__version__":
            return import_module("onnxmi.version").__version__
        if name == "__all__":
            return __dir__()
        api = import_module("onnxmi.api")
        public = {} if name.startswith("_") else vars(api)
        if name not in public or isinstance(public[name], type(api)):  # its modules are not those of this package
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = public[name]
        return value

    def __dir__():
        """List the public names, also those that are not imported yet."""
        module = type(import_module("onnxmi.api"))
        public = vars(import_module("onnxmi.api")).items()
        names = [name for name, value in public if not name.startswith("_") and not isinstance(value, module)]
        return sorted([*names, "__version__"])
