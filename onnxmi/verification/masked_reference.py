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
from onnx_graphsurgeon.logger import G_LOGGER

from onnxmi.typing import Bools
from onnxmi.verification.masked_normalization import MaskedNormalization, decompose_normalizations


@dataclass(frozen=True, eq=False)
class OutputMask:
    """What to multiply an output of the model with: `factors` broadcasts onto it."""

    output: str
    factors: Bools
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class Mask:
    """What to multiply an input of a node with: `factors` broadcasts onto it.

    `result` names the node by its first output; `dtype` is that of the input. An integer input is not multiplied: what
    is masked becomes the value of the tensor `zero` (a zero point), or 0.
    """

    result: str
    operand: int
    factors: Bools
    dtype: np.dtype[Any]
    zero: str | None = None


def with_masked_inputs(
    proto: onnx.ModelProto,
    masks: Iterable[Mask],
    renormalised: Iterable[MaskedNormalization] = (),
    outputs: Iterable[OutputMask] = (),
) -> onnx.ModelProto:
    """Return a copy of the model whose nodes read masked inputs, and whose normalizations leave the masked out.

    Of `outputs`, what is masked is zero.
    """
    with G_LOGGER.suppress():  # it warns on standard output, which may be data
        return _masked(proto, masks, renormalised, outputs)


def _masked(
    proto: onnx.ModelProto,
    masks: Iterable[Mask],
    renormalised: Iterable[MaskedNormalization],
    outputs: Iterable[OutputMask],
) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)  # graphsurgeon's export writes names into the tensors that its import was given
    graph = gs.import_onnx(copied)
    graphs = [graph, *graph.subgraphs(recursive=True)]
    nodes = {out.name: node for one in graphs for node in one.nodes for out in node.outputs}
    before: dict[int, list[gs.Node]] = {}  # by identity: comparing nodes is slow
    for number, mask in enumerate(masks):
        node = nodes[mask.result]
        made = _integer_mask(mask, number, node) if mask.dtype.kind in "iu" else _mask(mask, number, node)
        before.setdefault(id(node), []).extend(made)
        node.inputs[mask.operand] = made[-1].outputs[0]
    changed = decompose_normalizations(nodes, graph.opset, renormalised)
    after = [_output_mask(mask, graph) for mask in outputs]
    for one in graphs:
        one.nodes[:] = [
            new for node in one.nodes for new in (*before.get(id(node), ()), *changed.get(id(node), [node]))
        ]
    graph.nodes.extend(after)
    result: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    result.ir_version = proto.ir_version
    for value, original in zip(result.graph.output, proto.graph.output, strict=True):
        if not original.type.HasField("tensor_type"):  # graphsurgeon knows tensors alone: no maps, no sequences
            value.CopyFrom(original)
    return result


def _output_mask(mask: OutputMask, graph: gs.Graph) -> gs.Node:
    """What the model gives is masked; what its nodes read is not."""
    place = next(place for place, tensor in enumerate(graph.outputs) if tensor.name == mask.output)
    given = graph.outputs[place]
    masked = gs.Variable(mask.output, dtype=given.dtype, shape=given.shape)
    given.name = f"{mask.output}/onnxmi.unmasked"
    graph.outputs[place] = masked
    factors = gs.Constant(f"{mask.output}/onnxmi.mask", mask.factors.astype(mask.dtype))
    return gs.Node("Mul", inputs=[given, factors], outputs=[masked])


def _mask(mask: Mask, number: int, node: gs.Node) -> list[gs.Node]:
    factors = gs.Constant(f"onnxmi.mask{number}", mask.factors.astype(mask.dtype))
    masked = gs.Variable(f"onnxmi.masked{number}", dtype=node.inputs[mask.operand].dtype)
    return [gs.Node("Mul", inputs=[node.inputs[mask.operand], factors], outputs=[masked])]


def _integer_mask(mask: Mask, number: int, node: gs.Node) -> list[gs.Node]:
    """Choose between the input and its zero in 32 bits: onnxruntime has no Where of some small types."""
    wide, tensor = onnx.TensorProto.INT32, onnx.helper.np_dtype_to_tensor_dtype(mask.dtype)
    names = iter(f"onnxmi.masked{number}.{part}" for part in range(4))
    source = gs.Variable(next(names), dtype=np.int32)
    nodes = [gs.Node("Cast", attrs={"to": wide}, inputs=[node.inputs[mask.operand]], outputs=[source])]
    zero: gs.Tensor = gs.Constant(f"onnxmi.zero{number}", np.zeros((), np.int32))
    point = next((tensor for tensor in node.inputs if tensor.name and tensor.name == mask.zero), None)
    if point is not None:
        zero = gs.Variable(next(names), dtype=np.int32)
        nodes.append(gs.Node("Cast", attrs={"to": wide}, inputs=[point], outputs=[zero]))
    stays = gs.Constant(f"onnxmi.mask{number}", mask.factors)
    chosen, masked = gs.Variable(next(names), dtype=np.int32), gs.Variable(next(names), dtype=mask.dtype)
    nodes.append(gs.Node("Where", inputs=[stays, source, zero], outputs=[chosen]))
    nodes.append(gs.Node("Cast", attrs={"to": tensor}, inputs=[chosen], outputs=[masked]))
    return nodes
