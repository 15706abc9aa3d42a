"""What onnx's own shape inference tells of a model, and nothing where it gives up."""

from __future__ import annotations

import onnx


def inferred(proto: onnx.ModelProto, *, values: bool = False) -> onnx.ModelProto:
    """Return a copy with the types and shapes that follow from the inputs, as far as onnx can tell.

    Parameters
    ----------
    proto : onnx.ModelProto
        Not changed.
    values : bool
        Also follow the values of shapes.
    """
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=values)
    except Exception:  # it raises unrelated types, for one where a body reads a tensor of unknown type
        made = onnx.ModelProto()
        made.CopyFrom(proto)
        return made
