"""What a model has to be before anything looks into it: refused here in one line, and taken for granted afterwards.

onnxruntime accepts more than the ONNX specification allows (names given twice), and reports some
of what it refuses in ways that say little. None of it loads code: an operator from outside of onnxruntime is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, helper

from onnxmi.errors import ModelError
from onnxmi.model.external_data import MIN_SPLIT_BYTES, nested_graphs, stored_tensors, without_initializers
from onnxmi.model.mapped import is_external, raw_size, tensor_values
from onnxmi.typing import Array

# What onnxruntime's own CPU builds and exporters for them use.
KNOWN_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)
_FOREIGN = "com.microsoft"  # the checker leaves operators of this domain alone
# Types that are packed: fewer bits than numpy's type has.
_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
_BLOCK = 1 << 22  # values looked at together


def validate_model(proto: onnx.ModelProto) -> None:
    """Refuse a model that is damaged or that nothing here can run.

    Parameters
    ----------
    proto : onnx.ModelProto
        With its functions put in place and its external data loaded.

    Raises
    ------
    ModelError
        With what is wrong, where, in one line.
    """
    _check_versions(proto)
    _check_types(proto)
    _check_operators(proto)
    for tensor in stored_tensors(proto.graph):
        objection = _problem(tensor)
        if objection:
            raise ModelError(f"stored tensor {tensor.name!r} {objection}")
    _check_structure(proto)


def is_text(message: Message) -> bool:
    """Whether all strings of a message are UTF-8, as they have to be.

    protobuf reads others, too, and gives them as bytes, or fails when they are looked at.
    """
    try:
        return all(_entries_are_text(field, entries) for field, entries in _fields(message))
    except UnicodeDecodeError:
        return False


def _fields(message: Message) -> Iterable[tuple[FieldDescriptor, Iterable[Any]]]:
    """Yield the fields that are set, each with its values; of a stored tensor's, only those that hold no numbers."""
    if isinstance(message, TensorProto):  # to list its fields would copy its values
        described = message.DESCRIPTOR.fields_by_name
        yield described["name"], [message.name]
        yield described["doc_string"], [message.doc_string]
        yield described["external_data"], message.external_data
        return
    for field, value in message.ListFields():
        several = not isinstance(value, Message) and hasattr(value, "extend")
        yield field, value if several else [value]


def _entries_are_text(field: FieldDescriptor, entries: Iterable[Any]) -> bool:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return all(map(is_text, entries))
    return field.type != FieldDescriptor.TYPE_STRING or all(isinstance(entry, str) for entry in entries)


def byte_count(tensor: TensorProto) -> int:
    """Return how many bytes the values of a tensor take.

    Raises
    ------
    ModelError
        If its type or its dimensions are unusable.
    """
    objection = _bad_values(tensor)
    if objection:
        raise ModelError(f"stored tensor {tensor.name!r} {objection}")
    bits = _BITS.get(TensorProto.DataType.Name(tensor.data_type))
    if bits is None:
        bits = 8 * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return -(-int(prod(tensor.dims)) * bits // 8)


def _check_versions(proto: onnx.ModelProto) -> None:
    latest = onnx.defs.onnx_opset_version()
    if not 1 <= proto.ir_version <= onnx.IR_VERSION:
        raise ModelError(f"IR version {proto.ir_version} is not supported (1 to {onnx.IR_VERSION} are)")
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= latest:
            raise ModelError(f"operator set {entry.version} is not supported (1 to {latest} are)")


def _check_types(proto: onnx.ModelProto) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        kind = value.type.tensor_type.elem_type
        if value.type.HasField("tensor_type") and kind not in TensorProto.DataType.values():
            raise ModelError(f"{value.name!r} has the unknown data type {kind}")


def _check_operators(proto: onnx.ModelProto) -> None:
    for graph in nested_graphs(proto.graph):
        for node in graph.node:
            if node.domain not in KNOWN_DOMAINS:
                raise ModelError(
                    f"operator {node.op_type!r} belongs to the custom domain {node.domain!r}; "
                    "no libraries of custom operators are loaded"
                )
            for attribute in node.attribute:
                if attribute.ref_attr_name:
                    label = node.name or node.op_type
                    raise ModelError(
                        f"attribute {attribute.name!r} of {label!r} refers to an attribute of a function,"
                        " but is not inside a function"
                    )


def _check_structure(proto: onnx.ModelProto) -> None:
    """Let the ONNX checker look at everything but large tensors, whose bytes it would have to copy."""
    for name, times in Counter(value.name for value in proto.graph.output).items():
        if times > 1:
            raise ModelError(f"output {name!r} is listed twice")
    made = {name for node in proto.graph.node for name in node.output} | {value.name for value in proto.graph.input}
    made |= {tensor.name for tensor in proto.graph.initializer}
    made |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    for value in proto.graph.output:
        if value.name not in made:
            raise ModelError(f"output {value.name!r} is not computed by any operator")
    try:
        onnx.checker.check_model(_skeleton(proto))
    except Exception as error:  # the checker raises several unrelated types
        said = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"fails the ONNX checker: {said[:300]}") from error


def _skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model with its large initializers turned into inputs, and without what the checker need not know.

    Operators that onnxruntime's fusions put into the standard domain, or take from a later operator set, are no
    business of the checker's: onnxruntime knows them.
    """
    bare, large = without_initializers(
        proto, lambda tensor: is_external(tensor) or prod(tensor.dims) >= MIN_SPLIT_BYTES
    )
    for value in (*bare.graph.input, *bare.graph.output):
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.SetInParent()  # exporters leave it out, and onnxruntime infers it
    listed = {value.name for value in bare.graph.input}
    for tensor in large:
        if tensor.name in listed:
            continue
        bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    version = max((entry.version for entry in bare.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    for graph in nested_graphs(bare.graph):
        for node in graph.node:
            if version and node.domain in ("", "ai.onnx") and not _has_schema(node.op_type, version):
                node.domain = _FOREIGN
    imported = {entry.domain for entry in bare.opset_import}
    used = {node.domain for graph in nested_graphs(bare.graph) for node in graph.node} - {"", "ai.onnx"}
    bare.opset_import.extend(helper.make_opsetid(domain, 1) for domain in sorted(used - imported))
    return bare


def _has_schema(operator: str, version: int) -> bool:
    try:
        onnx.defs.get_schema(operator, version, "")
    except Exception:  # a SchemaError, which not every version of onnx exports
        return False
    return True


def _problem(tensor: TensorProto) -> str | None:
    """Return what is wrong with a stored tensor."""
    objection = _bad_values(tensor)
    if objection:
        return objection
    if tensor.HasField("raw_data") and raw_size(tensor) != byte_count(tensor):
        shape = list(tensor.dims)
        return f"has {raw_size(tensor):,} bytes; its shape {shape} takes {byte_count(tensor):,}"
    try:
        array = tensor_values(tensor)
    except Exception as error:  # ValueError, TypeError, OverflowError: numpy's words for too few or odd values
        return f"cannot be read: {' '.join(str(error).split())[:200]}"
    if array.size > 1 and _has_nan(array):  # a single one may be meant
        return "holds NaN"
    return None


def _bad_values(tensor: TensorProto) -> str | None:
    if tensor.HasField("segment"):
        return "is stored in segments, which is not supported"
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        return f"has the unknown data type {tensor.data_type}"
    if any(size < 0 for size in tensor.dims):
        return f"has a negative size in its shape {list(tensor.dims)}"
    return None


def _has_nan(array: Array) -> bool:
    if array.dtype.kind in "iubOSU":
        return False
    flat = array.reshape(-1)
    return any(bool(np.isnan(block).any()) for block in _blocks(flat))


def _blocks(flat: Array) -> Iterator[Array]:
    return (flat[start : start + _BLOCK] for start in range(0, len(flat), _BLOCK))
