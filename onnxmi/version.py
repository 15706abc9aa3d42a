"""The package's version, in the one place that setup.py reads too."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__version__ = "0.2.0"

_LIBRARIES = ("onnx", "onnxruntime", "onnx-graphsurgeon", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of onnxmi and of the libraries that results depend on."""
    found = {"onnxmi": __version__}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # onnxruntime also comes under other names
            continue
    return found
