"""Shapes of tensors inside loops, computed beside them: they can be shown where the tensors themselves cannot.

Iterations are stacked, and a tensor that grows from one to the next, as a cache does, cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper

from onnxmi.model.bodies import LOOPS, bodies_of
from onnxmi.model.taps import untapped_types


def with_inner_shapes(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Return a copy of a model that computes the shapes of all tensors inside loops.

    Returns
    -------
    onnx.ModelProto
        The copy.
    dict of str to str
        Tensor -> the tensor that holds its shape.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    shapes: dict[str, str] = {}
    other = untapped_types(made.graph)
    for body in _bodies_of_loops(made.graph, inside=False):
        names = [value.name for value in body.input]
        names += [name for node in body.node for name in node.output]
        for name in names:
            if name and name not in other:
                shapes[name] = f"{name}@shape"
                body.node.append(helper.make_node("Shape", [name], [shapes[name]]))
                body.value_info.append(helper.make_tensor_value_info(shapes[name], onnx.TensorProto.INT64, [None]))
    return made, shapes


def _bodies_of_loops(graph: onnx.GraphProto, *, inside: bool) -> Iterator[onnx.GraphProto]:
    for node in list(graph.node):
        for _, body in bodies_of(node):
            looped = inside or node.op_type in LOOPS
            yield from _bodies_of_loops(body, inside=looped)
            if looped:
                yield body
