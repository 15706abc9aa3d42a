"""Numbers stored as float16: half the bytes, the same interface, and the plan makes the same file again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.errors import ModelError
from onnxmi.model.external_data import byte_size
from onnxmi.model.load import checker_error
from onnxmi.model.order import in_order
from onnxmi.quantization import ort_quantizer
from onnxmi.quantization.quantize import prepare, quantize
from onnxmi.quantization.recipe import HALF
from onnxmi.runtime.session import open_session
from tests.support.build import Build

WIDTH, INNER = 67, 131


def mlp() -> onnx.ModelProto:
    b = Build(seed=5)
    inner = b.op("Relu", b.gemm(b.input("N", WIDTH), WIDTH, INNER))
    return b.proto(b.gemm(b.op("Relu", b.gemm(inner, INNER, INNER)), INNER, 7))


def rows(count: int = 307) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(3).normal(size=(count, WIDTH)).astype(np.float32)}


def test_half_of_the_bytes_and_the_same_interface() -> None:
    source = mlp()
    prepared = prepare(source)
    made = quantize(prepared, prepared.everything(HALF))
    assert checker_error(made) is None
    assert byte_size(made) < 0.52 * byte_size(source)
    assert list(made.graph.input) == list(source.graph.input)
    assert list(made.graph.output) == list(source.graph.output)
    was, now = (next(iter(open_session(proto).run(rows()).values())) for proto in (source, made))
    assert now.dtype == np.float32
    assert 0 < np.abs(was - now).max() < 0.01 * was.std()


def test_a_result_is_verified_reported_and_made_again_by_its_plan(tmp_path) -> None:
    result = onnxmi.prune(mlp(), rows(), keep=0.5, quantize=HALF, threads=1, latency=False)
    assert [step.name for step in result.contributions] == ["original", "pruned", "pruned, float16"]
    assert "stored as float16" in " ".join(result.notes)
    assert {tensor.data_type for tensor in result.model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    plan = tmp_path / "a.plan.json"
    plan.write_text(result.plan.to_json())
    assert onnxmi.prune(mlp(), rows(), plan=plan, threads=1, latency=False).digest == result.digest


def test_a_model_with_bodies_is_refused() -> None:
    body = onnx.parser.parse_graph("b () => (float[N, 3] z) { z = Identity(x) }")
    graph = onnx.parser.parse_graph("g (float[N, 3] x, bool c) => (float[N, 3] y) { }")
    graph.node.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body))
    with pytest.raises(ModelError, match="--half: the model has bodies of If, Loop or Scan"):
        ort_quantizer.to_half(onnx.helper.make_model(graph))


def test_nodes_come_after_what_they_read_and_else_stay_where_they_are() -> None:
    proto = mlp()
    names = [node.name for node in proto.graph.node]
    assert [node.name for node in in_order(proto).graph.node] == names
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes[::-1])
    ordered = in_order(proto).graph.node
    assert all(set(later.input) & set(before.output) for before, later in pairwise(ordered))
