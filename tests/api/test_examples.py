"""What docstrings of the public functions show works, on the bundled models."""

from __future__ import annotations

import doctest
import shutil

import numpy as np
import onnx
import pytest

import onnxmi

SHOWN = ("prune", "apply", "inspect", "bench", "check", "diff", "sweep", "PruneOptions", "Result")
RUN = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", SHOWN)
def test_examples(name, bundled, tmp_path, monkeypatch):
    for file in ("digits-mlp.onnx", "digits-mlp.calib.npz"):
        shutil.copy(bundled / file, tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"onnxmi": onnxmi, "np": np, "onnx": onnx}
    found = doctest.DocTestFinder(recurse=False).find(getattr(onnxmi, name), name, globs=names)
    assert [test for test in found if test.examples], f"{name} has no example"
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=RUN)
    assert all(runner.run(test, out=told.append).failed == 0 for test in found), "".join(told)


@pytest.mark.parametrize("name", [name for name in SHOWN if name[0].islower()])
def test_docstrings_say_what_comes_in_and_out_and_what_is_raised(name):
    told = getattr(onnxmi, name).__doc__
    assert all(f"    {section}\n    ---" in told for section in ("Parameters", "Returns", "Raises", "Examples"))
