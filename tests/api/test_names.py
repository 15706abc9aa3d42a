"""The public names: what `import onnxmi` offers, without loading anything before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import onnxmi


def test_dir_lists_public_names_alone():
    names = dir(onnxmi)
    assert names == sorted(onnxmi.__all__)
    assert {"prune", "apply", "bench", "check", "report", "sweep", "inspect", "collect", "UsageError"} <= set(names)
    assert not [name for name in names if name.startswith("_") and name != "__version__"]
    assert not [name for name in names if isinstance(getattr(onnxmi, name), ModuleType)]


def test_a_star_import_brings_them_all():
    names: dict[str, object] = {}
    exec("from onnxmi import *", names)
    assert set(dir(onnxmi)) <= names.keys()


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, onnxmi; assert not {'onnx', 'numpy', 'onnxruntime', 'rich'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_is_not_there():
    with pytest.raises(AttributeError, match="module 'onnxmi' has no attribute 'prun'"):
        _ = onnxmi.prun
    with pytest.raises(AttributeError):
        _ = onnxmi._prune


@pytest.mark.parametrize("name", [name for name in dir(onnxmi) if name.endswith("Error")])
def test_every_error_is_one_to_catch(name):
    assert issubclass(getattr(onnxmi, name), onnxmi.OnnxmiError)


def test_every_public_name_says_what_it_is():
    assert not [name for name in dir(onnxmi) if name != "__version__" and not getattr(onnxmi, name).__doc__]


def test_the_modules_of_the_api_do_not_stand_for_folders_of_the_package():
    """`onnxmi.pruning` is a folder that is imported by its own name; `onnxmi.api.pruning` is another module."""
    code = "import onnxmi, onnxmi.api; assert not hasattr(onnxmi, 'samples'); import onnxmi.pruning.options as o; "
    code += "assert onnxmi.pruning.__name__ == 'onnxmi.pruning', onnxmi.pruning"
    subprocess.run([sys.executable, "-c", code], check=True)
