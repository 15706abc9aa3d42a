"""What each step did: models given as steps, and a quantized one whose plan tells the step before it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.benchmark import compare
from onnxmi.benchmark.steps import stored_types
from onnxmi.model import Model
from onnxmi.runtime.timing import Latency

QUICK = ("--threads", "1", "--seconds", "10ms", "--no-memory", "--no-operators")


@pytest.fixture
def quantized(place):
    """The wide model, pruned and quantized, with its plan beside it, and the pruned float model."""
    made = ("--quantize", "dynamic", "--threads", "1", "-o", "small.onnx", "--float", "between.onnx", "--force")
    place.run("prune", "wide.onnx", "data.npz", "--keep", "0.5", *made)
    assert (place.folder / "small.plan.json").exists()
    return place


def test_the_float_model_is_written_beside_the_quantized_one(quantized) -> None:
    float_model, small = (onnx.load(quantized.folder / name) for name in ("between.onnx", "small.onnx"))
    assert not [tensor for tensor in float_model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert [tensor for tensor in small.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    names = [[value.name for value in proto.graph.output] for proto in (float_model, small)]
    assert names[0] == names[1]
    message = quantized.fails(2, "prune", "wide.onnx", "data.npz", "--float", "between.onnx", "-o", "new.onnx")
    assert message.startswith("between.onnx: exists")


def test_a_plan_brings_the_float_model_along(quantized) -> None:
    found = json.loads(quantized.succeeds("bench", "wide.onnx", "small.onnx", "--steps", *QUICK, "--json"))
    assert [model["name"] for model in found["models"]] == ["wide", "small, before it was quantized", "small"]
    given = json.loads(
        quantized.succeeds("bench", "wide.onnx", "between.onnx", "small.onnx", "--steps", *QUICK, "--json")
    )
    assert [model["name"] for model in given["models"]] == ["wide", "between", "small"]
    assert [row["macs"] for row in given["rows"]] == [row["macs"] for row in found["rows"]]
    alone = json.loads(quantized.succeeds("bench", "wide.onnx", "small.onnx", *QUICK, "--json"))
    assert [model["name"] for model in alone["models"]] == ["wide", "small"]


@pytest.mark.parametrize("text", ["", "{}"])
def test_a_plan_that_says_nothing_of_it_brings_none(quantized, text: str) -> None:
    (quantized.folder / "small.plan.json").write_text(text)
    found = json.loads(quantized.succeeds("bench", "wide.onnx", "small.onnx", "--steps", *QUICK, "--json"))
    assert [model["name"] for model in found["models"]] == ["wide", "small"]


def test_a_plan_for_another_model_brings_none(quantized) -> None:
    found = json.loads(quantized.succeeds("bench", "narrow.onnx", "small.onnx", "--steps", *QUICK, "--json"))
    assert [model["name"] for model in found["models"]] == ["narrow", "small"]


def test_each_step_is_against_the_model_before_it(place, monkeypatch) -> None:
    def measured(models, feeds, **options):
        return tuple(Latency(np.full(7, time)) for time in (12.0, 6.0, 2.0)[: len(models)])

    monkeypatch.setattr(compare, "measure_latency", measured)
    files = [place.folder / name for name in ("wide.onnx", "narrow.onnx", "narrow.onnx")]
    found = onnxmi.bench(*files, memory=False, operators=False, steps=True)
    assert [row.speedup for row in found.rows] == [1.0, 2.0, 6.0]
    assert [row.step for row in found.rows] == [1.0, 2.0, 3.0]
    assert "What each step did" in str(found)
    assert "What each step did" not in str(onnxmi.bench(*files, memory=False, operators=False))


def test_types_of_stored_numbers_are_told_by_their_bytes() -> None:
    tensors = [np.zeros((13, 17), np.int8), np.zeros((5, 17), np.float32), np.zeros(7, np.int64)]
    stored = [onnx.numpy_helper.from_array(value, f"t{number}") for number, value in enumerate(tensors)]
    graph = onnx.helper.make_graph([], "g", [], [], stored)
    assert stored_types(Model.of(onnx.helper.make_model(graph))) == "float32 61%, int8 39%"
