"""The recipe in a plan: written, read again, and refused where it is no recipe."""

from __future__ import annotations

import json

import pytest

from onnxmi.errors import PlanError
from onnxmi.quantization.recipe import Recipe

RECIPE = Recipe(
    "static",
    ("/a/MatMul", "/b/Conv"),
    ("/c/Gemm",),
    per_channel=False,
    reduced_range=True,
    calibration="entropy",
    ranges={"x": (-1.5, 0.1), "y": (0.0, 3.25)},
    kept=("logits",),
)


def test_a_recipe_is_read_as_it_was_written() -> None:
    assert Recipe.from_dict(json.loads(json.dumps(RECIPE.to_dict()))) == RECIPE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "int4"}, "the mode 'int4'"),
        ({"int8": "MatMul"}, "'int8' is not a list of names"),
        ({"float": [3]}, "'float' is not a list of names"),
        ({"calibration": "guess"}, "the calibration 'guess'"),
        ({"ranges": []}, "'ranges' is not an object"),
        ({"ranges": {"x": [2.0, 1.0]}}, "the range of 'x' is not two numbers, the lower one first"),
        ({"ranges": {"x": [float("nan"), 1.0]}}, "the range of 'x'"),
        ({"ranges": {"x": 3}}, "the range of 'x'"),
    ],
)
def test_what_is_no_recipe_is_refused(change: dict, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Recipe.from_dict({**RECIPE.to_dict(), **change})


def test_neither_is_a_list() -> None:
    with pytest.raises(PlanError, match="not an object"):
        Recipe.from_dict([])
