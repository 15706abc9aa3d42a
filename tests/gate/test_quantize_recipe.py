"""The recipe in docs/quantize.md runs as it is printed, and what it makes passes a gate against the original."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "quantize.md").read_text(encoding="utf-8")
(RECIPE,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def quantised(place, bundled):
    """A trained model in place of the pruned one: the recipe takes either."""
    shutil.copy(bundled / "digits-resnet.onnx", "pruned.onnx")
    shutil.copy(bundled / "digits-resnet.calib.npz", "calib.npz")
    shutil.copy(bundled / "digits-resnet.eval.npz", "eval.npz")
    exec(compile(RECIPE, "docs/quantize.md", "exec"), {"__name__": "recipe"})
    return place


@pytest.mark.filterwarnings("ignore")
def test_what_the_recipe_makes_is_smaller_and_as_good(quantised):
    against = ("--data", "eval.npz", "--max-drop", "0.03", "--baseline")
    quantised.passes("pruned.static.onnx", "--max-size-ratio", "0.5", *against, "pruned.onnx")
    # Its one dense layer is small, and onnxruntime 1.27 fuses nothing in ready.onnx but names every shape in it.
    quantised.passes("pruned.dynamic.onnx", "--max-size-ratio", "1", *against, "ready.onnx")
