"""What pruning and what quantizing did, on the page of a run whose result is quantized."""

from __future__ import annotations

import pytest

from onnxmi.errors import DataError
from onnxmi.reporting.html import render

STEPS = [
    {"name": "original", "bytes": 2_340_522, "damage": 0.0, "value": 0.9512, "latency_ms": None, "speedup": None},
    {"name": "pruned", "bytes": 740_324, "damage": 0.0189, "value": 0.935, "latency_ms": 0.361, "speedup": 2.54},
    {"name": "pruned, 8-bit", "bytes": 255_013, "damage": 0.0193, "value": 0.9347, "latency_ms": 0.25, "speedup": 3.67},
]


def test_each_step_has_a_row_with_its_size_time_and_quality(run, read) -> None:
    run["quantization"] = {"mode": "static", "int8": ["a"], "float": [], "steps": STEPS}
    page = read(render(run, "run.json"))
    assert "steps" in [attributes["id"] for attributes in page.all("section")]
    for shown in ("What pruning did", "pruned, 8-bit", "0.9347", "255.0", "1.9%", "3.67"):
        assert shown in page.source


def test_a_float_result_has_no_such_table(run, read) -> None:
    for quantization in (None, {"mode": "static", "steps": []}):
        run["quantization"] = quantization
        assert "What pruning did" not in read(render(run, "run.json")).source
    del run["quantization"]  # of an older version
    assert "What pruning did" not in read(render(run, "run.json")).source


def test_a_step_that_is_no_step_is_refused(run) -> None:
    run["quantization"] = {"steps": [{"name": 3}]}
    with pytest.raises(DataError, match="'name' is not a text"):
        render(run, "run.json")
