"""The original model with channels multiplied by zero, built with onnx-graphsurgeon.

This is the reference that a rewrite is checked against, so it shares no code with the rewriter. Its result is only
run, never written: graphsurgeon's round trip drops metadata.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Mask:
    """What to multiply an input of a node with: `factors` broadcasts onto it.

    `result` names the node by its first output; `dtype` is that of the input.
    """

    result: str
    operand: int
    factors: NDArray[np.bool_]
    dtype: np.dtype[Any]


def with_masks(proto: onnx.ModelProto, masks: Iterable[Mask]) -> onnx.ModelProto:
    """Return a copy of the model whose nodes read masked inputs."""
    graph = gs.import_onnx(proto)
    nodes = {out.name: node for node in graph.nodes for out in node.outputs}
    for number, mask in enumerate(masks):
        node = nodes[mask.result]
        source = node.inputs[mask.operand]
        factors = gs.Constant(f"onnxmi.mask{number}", mask.factors.astype(mask.dtype))
        masked = gs.Variable(f"onnxmi.masked{number}", dtype=source.dtype)
        graph.nodes.insert(graph.nodes.index(node), gs.Node("Mul", inputs=[source, factors], outputs=[masked]))
        node.inputs[mask.operand] = masked
    made: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    made.ir_version = proto.ir_version
    return made
