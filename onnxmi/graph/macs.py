"""Multiply-accumulates of one node, by the record of its operator."""

from __future__ import annotations

from onnxmi.model import Node
from onnxmi.operators.macs import MacContext, Shapes, UnknownShapeError, Work
from onnxmi.operators.registry import operator_of


def work_of(node: Node, shapes: Shapes) -> tuple[Work, ...]:
    """Return what one node multiplies, on tensors of the given shapes; nothing where a shape is unknown."""
    count = operator_of(node).macs
    if count is None:
        return ()
    try:
        return tuple(count(MacContext(node, shapes)))
    except UnknownShapeError:
        return ()


def node_macs(node: Node, shapes: Shapes) -> int:
    """Multiply-accumulates of one node; 0 for operators that hold neither products nor convolutions."""
    return sum(work.macs for work in work_of(node, shapes))
