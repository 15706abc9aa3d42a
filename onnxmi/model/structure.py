"""A model's structure as plain data: names, operators, shapes and attributes, and no number that it has learned."""

from __future__ import annotations

import os
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

MAX_LIST_LENGTH = 16  # numbers of a list attribute that are shown; kernel shapes and pads are shorter


def structure_at(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe the model in a file; its external data is not read. See `structure_of`."""
    return structure_of(onnx.load(os.fspath(path), load_external_data=False))


def structure_of(proto: onnx.ModelProto) -> dict[str, Any]:
    """Describe a model without its weights.

    Returns
    -------
    dict
        Ready for JSON. Stored tensors are told by type and shape alone, and so are those in attributes.
    """
    return {
        "ir_version": proto.ir_version,
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
        "opsets": {entry.domain: entry.version for entry in proto.opset_import},
        "functions": [
            {
                "name": function.name,
                "domain": function.domain,
                "inputs": list(function.input),
                "outputs": list(function.output),
                "nodes": [_node(node) for node in function.node],
            }
            for function in proto.functions
        ],
        "graph": _graph(proto.graph),
    }


def _graph(graph: onnx.GraphProto) -> dict[str, Any]:
    return {
        "name": graph.name,
        "inputs": [_value(value) for value in graph.input],
        "outputs": [_value(value) for value in graph.output],
        "stored": [_tensor(tensor) for tensor in graph.initializer],
        "sparse": [{"name": entry.values.name, "shape": list(entry.dims)} for entry in graph.sparse_initializer],
        "nodes": [_node(node) for node in graph.node],
    }


def _node(node: onnx.NodeProto) -> dict[str, Any]:
    return {
        "name": node.name,
        "op": node.op_type,
        "domain": node.domain,
        "inputs": list(node.input),
        "outputs": list(node.output),
        "attributes": {a.name: _attribute(a, stored=node.op_type == "Constant") for a in node.attribute},
    }


def _attribute(attribute: AttributeProto, *, stored: bool) -> Any:
    kind = AttributeProto.AttributeType.Name(attribute.type)
    if kind == "GRAPH":
        return _graph(attribute.g)
    if kind == "GRAPHS":
        return [_graph(graph) for graph in attribute.graphs]
    if kind == "TENSOR":
        return _tensor(attribute.t)
    if kind in ("FLOAT", "INT", "STRING") and not stored:
        value = helper.get_attribute_value(attribute)
        return value.decode("utf-8", "replace")[:256] if isinstance(value, bytes) else value
    if kind in ("FLOATS", "INTS", "STRINGS"):
        values = list(helper.get_attribute_value(attribute))
        shown = (
            kind == "INTS" and len(values) <= MAX_LIST_LENGTH and not stored
        )  # others are learned: trees, support vectors, words
        return values if shown else {"type": kind.lower(), "shape": [len(values)]}
    return {"type": kind.lower()}


def _tensor(tensor: TensorProto) -> dict[str, Any]:
    return {"name": tensor.name, "type": _type(tensor.data_type), "shape": list(tensor.dims)}


def _value(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": value.name, "type": kind or "unknown"}
    tensor = value.type.tensor_type
    dims = [dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else None) for dim in tensor.shape.dim]
    return {
        "name": value.name,
        "type": _type(tensor.elem_type),
        "shape": dims if tensor.HasField("shape") else None,
    }


def _type(kind: int) -> str:
    known = kind in TensorProto.DataType.values()
    return TensorProto.DataType.Name(kind).lower() if known else str(kind)
