"""What 8-bit products do on this processor, found out by making one."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx

from onnxmi.runtime.session import open_session

_LENGTH = 64  # of the product: a multiple of what any processor sums at once


@cache
def saturates() -> bool:
    """Return whether 8-bit products saturate here: sums of two products are held in 16 bits.

    Processors without VNNI or a dot-product instruction do that. Weights then take 7 bits of the 8.
    """
    rows, columns = 4, 32
    left = np.full((rows, _LENGTH), 255, dtype=np.uint8)
    right = np.full((_LENGTH, columns), 127, dtype=np.int8)
    got = open_session(_product(right)).run({"left": left})["product"]
    return bool((got != 255 * 127 * _LENGTH).any())


def _product(right: np.ndarray[tuple[int, ...], np.dtype[np.int8]]) -> onnx.ModelProto:
    stored = onnx.TensorProto(name="right", data_type=onnx.TensorProto.INT8, dims=right.shape, raw_data=right.tobytes())
    graph = onnx.GraphProto(
        name="product",
        node=[onnx.NodeProto(op_type="MatMulInteger", input=["left", "right"], output=["product"])],
        initializer=[stored],
        input=[_value("left", onnx.TensorProto.UINT8)],
        output=[_value("product", onnx.TensorProto.INT32)],
    )
    return onnx.ModelProto(ir_version=8, opset_import=[onnx.OperatorSetIdProto(version=13)], graph=graph)


def _value(name: str, kind: int) -> onnx.ValueInfoProto:
    value = onnx.ValueInfoProto(name=name)
    value.type.tensor_type.elem_type = kind
    return value
