"""Operators in any order: read as if they were in ONNX's."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.model import Model
from onnxmi.model.bodies import bodies_of, nested_nodes
from onnxmi.model.order import in_order
from onnxmi.runtime.session import open_session
from tests.support import exported
from tests.support.build import Build


def shuffle(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same model with its operators, and those of its bodies, in another order."""
    made, rng = onnx.ModelProto(), random.Random(seed)
    made.CopyFrom(proto)
    bodies = [body for node in nested_nodes(made.graph) for _, body in bodies_of(node)]
    for graph in (*bodies, made.graph):
        nodes = list(graph.node)
        rng.shuffle(nodes)
        del graph.node[:]
        graph.node.extend(nodes)
    return made


def dense() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    b = Build(seed=3)
    x = b.op("Relu", b.gemm(b.input("N", 7), 7, 11))
    for _ in range(3):
        x = b.op("Add", x, b.gemm(b.op("Tanh", b.gemm(x, 11, 13)), 13, 11))
    arrays = {"x": np.random.default_rng(2).normal(size=(67, 7)).astype(np.float32)}
    return b.proto(b.gemm(x, 11, 5), dims=[("N", 5)]), arrays


@pytest.mark.parametrize("name", ["dense", "keras_gru", "scan_rnn", "nested_if", "merged_decoder"])
def test_a_model_in_any_order_is_read_as_in_onnx_s(name: str) -> None:
    proto, arrays = dense() if name == "dense" else getattr(exported, name)()
    ordered = Model.of(proto).proto
    feeds = {key: value[:1] if name == "nested_if" else value for key, value in arrays.items()}
    expected = open_session(ordered, optimise=False).run(feeds)
    for seed in range(7):
        read = Model.of(shuffle(proto, seed)).proto
        onnx.checker.check_model(read)
        for key, value in open_session(read, optimise=False).run(feeds).items():
            np.testing.assert_array_equal(value, expected[key])


def test_a_model_in_order_is_not_copied() -> None:
    proto, _ = dense()
    assert in_order(proto) is proto


def test_a_circle_is_left_as_it_is() -> None:
    proto, _ = dense()
    proto.graph.node[0].input[0] = proto.graph.node[-1].output[0]
    assert in_order(proto) is proto


def test_a_file_in_any_order_is_pruned() -> None:
    proto, arrays = dense()
    options = onnxmi.PruneOptions(keep=0.5, threads=1, latency=False)
    results = [onnxmi.prune(one, arrays, options) for one in (proto, shuffle(proto, 3))]
    kept = [{choice.layer: choice.kept.tolist() for choice in result.plan.choices} for result in results]
    assert kept[0]
    assert kept[0] == kept[1]
