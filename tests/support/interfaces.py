"""Models of which only the inputs matter: each is handed through."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxmi.model import Model


def taking(dtype: type = np.float32, **inputs: tuple[int | str | None, ...]) -> Model:
    """A model with these inputs, all of one type."""
    return Model.of(taking_types(**{name: (dtype, dims) for name, dims in inputs.items()}))


def taking_types(**inputs: tuple[Any, tuple[int | str | None, ...]]) -> onnx.ModelProto:
    """The same, each with a type of its own."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(dims))
        for name, (dtype, dims) in inputs.items()
    ]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"], name=f"copy_{name}") for name in inputs]
    outputs = [
        helper.make_tensor_value_info(f"{name}_out", value.type.tensor_type.elem_type, list(dims))
        for (name, (_, dims)), value in zip(inputs.items(), values, strict=True)
    ]
    graph = helper.make_graph(nodes, "copies", values, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
