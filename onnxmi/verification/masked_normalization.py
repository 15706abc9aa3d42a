"""Normalizations of the original that leave masked channels out: the other half of the oracle of a rewrite.

A mean over an axis whose channels are masked is the masked sum divided by what is kept. An operator that normalizes by
itself is spelled out in such means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxmi.typing import Bools

AXES_ARE_INPUTS = 18  # opset from which ReduceMean reads its axes


@dataclass(frozen=True, eq=False)
class MaskedNormalization:
    """A node that normalizes over `axes` of its input, some channels of which are masked.

    `result` names the node by its first output; `share` is the share of the positions on the axes that stay.
    """

    result: str
    axes: tuple[int, ...]
    factors: Bools
    share: float
    dtype: np.dtype[Any]


class _Writer:
    """Appends nodes that compute in one floating-point type."""

    def __init__(self, prefix: str, opset: int, dtype: np.dtype[Any]) -> None:
        self.prefix, self.opset, self.dtype = prefix, opset, dtype
        self.nodes: list[gs.Node] = []

    def constant(self, value: Any, dtype: Any = None) -> gs.Constant:
        name = f"{self.prefix}.c{len(self.nodes)}.{id(value)}"
        return gs.Constant(name, np.ascontiguousarray(np.asarray(value, dtype=dtype or self.dtype)))

    def op(self, op: str, *inputs: Any, **attributes: Any) -> gs.Variable:
        out = gs.Variable(f"{self.prefix}.{len(self.nodes)}", dtype=self.dtype)
        self.nodes.append(gs.Node(op, inputs=list(inputs), outputs=[out], attrs=attributes))
        return out

    def mean(self, x: Any, axes: tuple[int, ...], share: float) -> gs.Variable:
        if self.opset >= AXES_ARE_INPUTS:
            found = self.op("ReduceMean", x, self.constant(np.array(axes), np.int64), keepdims=1)
        else:
            found = self.op("ReduceMean", x, axes=list(axes), keepdims=1)
        return self.op("Mul", found, self.constant(1.0 / share))

    def normalized(self, x: Any, what: MaskedNormalization, epsilon: float, *, centred: bool) -> gs.Variable:
        """Subtract the mean, and divide by the root of the mean square, of what is kept."""
        factors = self.constant(what.factors)
        x = self.op("Mul", x, factors)
        if centred:
            x = self.op("Mul", self.op("Sub", x, self.mean(x, what.axes, what.share)), factors)
        power = self.mean(self.op("Mul", x, x), what.axes, what.share)
        return self.op("Div", x, self.op("Sqrt", self.op("Add", power, self.constant(epsilon))))

    def scaled(self, x: Any, scale: Any, shift: Any) -> gs.Variable:
        for op, operand in (("Mul", scale), ("Add", shift)):
            if operand is not None:
                x = self.op(op, x, operand)
        return x


def _operand(node: gs.Node, position: int) -> Any:
    return node.inputs[position] if position < len(node.inputs) and node.inputs[position].name else None


def _layer_norm(write: _Writer, node: gs.Node, what: MaskedNormalization) -> list[gs.Variable]:
    centred = node.op == "LayerNormalization"
    made = write.normalized(node.inputs[0], what, node.attrs.get("epsilon", 1e-5), centred=centred)
    return [write.scaled(made, _operand(node, 1), _operand(node, 2))]


def _skip_layer_norm(write: _Writer, node: gs.Node, what: MaskedNormalization) -> list[gs.Variable]:
    centred = node.op == "SkipLayerNormalization"
    bias = _operand(node, 4 if centred else 3)
    total = write.scaled(write.op("Add", node.inputs[0], node.inputs[1]), None, bias)
    made = write.normalized(total, what, node.attrs.get("epsilon", 1e-12), centred=centred)
    return [write.scaled(made, _operand(node, 2), _operand(node, 3) if centred else None), total]


def _over_space(write: _Writer, node: gs.Node, what: MaskedNormalization) -> list[gs.Variable]:
    """InstanceNormalization, and BatchNormalization in training mode: parameters lie on axis 1."""
    made = write.normalized(node.inputs[0], what, node.attrs.get("epsilon", 1e-5), centred=True)
    shape = [-1] + [1] * (what.factors.ndim - 2)
    scale, shift = (write.op("Reshape", node.inputs[i], write.constant(shape, np.int64)) for i in (1, 2))
    return [write.scaled(made, scale, shift)]


_SPELLED_OUT: dict[str, Callable[[_Writer, gs.Node, MaskedNormalization], list[gs.Variable]]] = {
    **dict.fromkeys(("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"), _layer_norm),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_layer_norm),
    **dict.fromkeys(("InstanceNormalization", "BatchNormalization"), _over_space),
}
KNOWN = frozenset({"ReduceMean", *_SPELLED_OUT})


def decompose_normalizations(
    nodes: Mapping[str, gs.Node], opset: int, changes: Iterable[MaskedNormalization]
) -> dict[int, list[gs.Node]]:
    """Return, by the identity of a node, the nodes to put in its place so that the masked channels are left out.

    `nodes` has the nodes by the names of what they make.
    """
    changed: dict[int, list[gs.Node]] = {}
    for number, what in enumerate(changes):
        node = nodes[what.result]
        write = _Writer(f"onnxmi.renormalised{number}", opset, what.dtype)
        changed[id(node)] = _mean(write, node, what) if node.op == "ReduceMean" else _decomposed(write, node, what)
    return changed


def _decomposed(write: _Writer, node: gs.Node, what: MaskedNormalization) -> list[gs.Node]:
    made = _SPELLED_OUT[node.op](write, node, what)
    outs = [node.outputs[0], *node.outputs[3:4]]  # a fused sum is the fourth output; statistics are not made
    node.outputs.clear()
    for out, value in zip(outs, made, strict=False):
        if out.name:
            write.nodes.append(gs.Node("Identity", inputs=[value], outputs=[out]))
    return write.nodes


def _mean(write: _Writer, node: gs.Node, what: MaskedNormalization) -> list[gs.Node]:
    """Mask what the mean is taken of, and divide by what is kept instead of by all."""
    node.inputs[0] = write.op("Mul", node.inputs[0], write.constant(what.factors))
    out = node.outputs[0]
    whole = gs.Variable(f"{write.prefix}.mean", dtype=what.dtype)
    node.outputs[0] = whole
    return [*write.nodes, node, gs.Node("Mul", inputs=[whole, write.constant(1.0 / what.share)], outputs=[out])]
