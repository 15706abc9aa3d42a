"""Make small networks without training: random inner layers, and a last layer that ridge regression fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


@dataclass
class Network:
    """An ONNX graph that grows node by node."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def store(self, array: Array) -> str:
        """Store a tensor and return its name."""
        name = f"stored_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def random(self, *shape: int, fan_in: int) -> str:
        """Store random weights that keep the variance of what they multiply."""
        return self.store((self.rng.normal(size=shape) * np.sqrt(2 / fan_in)).astype(np.float32))

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        output = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def linear(self, x: str, inputs: int, outputs: int, name: str, damped: float = 1) -> str:
        """Add a random dense layer without a bias; `damped` divides its variance, as of a branch beside a skip."""
        return self.add("MatMul", x, self.random(inputs, outputs, fan_in=int(inputs * damped)), name=name)

    def normalized(self, x: str, width: int) -> str:
        """Add a layer normalization over the last axis."""
        scale, bias = self.store(np.ones(width, np.float32)), self.store(np.zeros(width, np.float32))
        return self.add("LayerNormalization", x, scale, bias, axis=-1)

    def model(self, inputs: dict[str, tuple[Any, list[Any]]], outputs: dict[str, list[Any]]) -> onnx.ModelProto:
        """Return what has been added so far as a model: names, types and shapes of inputs, and of float outputs."""
        given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "tiny", given, results, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> Array:
    """Return the first output."""
    result: Array = ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    return result


def fitted(features: Array, targets: Array, ridge: float, often: Array | None = None) -> tuple[Array, Array]:
    """Fit targets (rows, outputs) by features (rows, inputs); `often` (rows,) says how often a row counts.

    Returns the weights (inputs, outputs) and the biases (outputs,), in float32.
    """
    share = np.ones(len(features)) if often is None else often
    mean, center = np.average(features, axis=0, weights=share), np.average(targets, axis=0, weights=share)
    x, y = (features - mean).astype(np.float64), (targets - center).astype(np.float64)
    weighted = x * share[:, None]
    gram = weighted.T @ x
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    weights = np.linalg.solve(gram, weighted.T @ y)
    return weights.astype(np.float32), (center - mean @ weights).astype(np.float32)
