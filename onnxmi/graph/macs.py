"""Multiply-accumulates of one node, by the record of its operator."""

from __future__ import annotations

from onnxmi.model import Node
from onnxmi.operators.macs import MacContext, Shapes, UnknownShapeError, Work
from onnxmi.operators.registry import OPERATORS, operator_of

# Products that onnxruntime's profiler names, besides those whose work is counted.
_UNCOUNTED_PRODUCTS = frozenset({"MoE"})
_PRODUCTS = _UNCOUNTED_PRODUCTS.union(op for (domain, op), known in OPERATORS.items() if not domain and known.macs)


def multiplies(operator: str) -> bool:
    """Whether an operator's work shrinks with the product of two widths.

    The others move or change each number once or so: theirs shrinks with one width, or not at all.

    Parameters
    ----------
    operator : str
        In onnxruntime's spelling, after its fusions: "FusedMatMul", "NhwcFusedConv".
    """
    return any(product in operator for product in _PRODUCTS)


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
