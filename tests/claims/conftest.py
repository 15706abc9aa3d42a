"""A small network and its study, and the tools where tests import them from."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import PruningSession, start_session

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"


@pytest.fixture(scope="module", autouse=True)
def _tools_on_the_path() -> object:
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    """7 -> 13 -> 11 -> 3, biases everywhere."""
    rng = np.random.default_rng(0)
    sizes = (7, 13, 11, 3)
    tensors, nodes, name = [], [], "x"
    for i, (before, after) in enumerate(pairwise(sizes)):
        tensors.append(numpy_helper.from_array(rng.normal(size=(after, before)).astype(np.float32), f"w{i}"))
        tensors.append(numpy_helper.from_array(rng.normal(size=after).astype(np.float32), f"b{i}"))
        last = i == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"], f"fc{i}", transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{i}"], [name := f"r{i}"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 7])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.fixture(scope="module")
def session(network: onnx.ModelProto) -> PruningSession:
    from onnxmi.model import Model

    samples = {"x": np.random.default_rng(1).normal(size=(31, 7)).astype(np.float32)}
    return start_session(Model.of(network), samples, PruneOptions(keep=0.5, threads=1))
