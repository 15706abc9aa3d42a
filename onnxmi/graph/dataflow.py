"""What the values of tensors depend on: weights, and sizes that a network decides.

A cut changes only what is computed with weights. Where such values decide a size (how many boxes are kept, how long
the speech is), two models answer with tensors of different sizes, and elements cannot be compared one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxmi.model import Graph, Node
from onnxmi.operators.registry import operator_of

_TABLE_ITEM = 4  # bytes: stored integers of this width or more are positions and indices, narrower ones coded weights


@dataclass
class Flow:
    """The tensors that depend on weights, and those whose size does.

    Attributes
    ----------
    learned : set of str
        Tensors whose values depend on weights: stored tensors of two axes or more, or bodies that may hold some.
    varying : set of str
        Tensors whose size depends on learned values.
    """

    learned: set[str] = field(default_factory=set)
    varying: set[str] = field(default_factory=set)

    @staticmethod
    def of(graph: Graph) -> Flow:
        """Follow all tensors of a graph, in its order."""
        flow = Flow()
        for node in graph.nodes:
            made = [name for name in node.outputs if name]
            if flow._varies(graph, node):
                flow.varying.update(made)
            if flow._learns(graph, node):
                flow.learned.update(made)
        flow.learned -= graph.folded  # weights in another shape: no activations
        return flow

    def _learns(self, graph: Graph, node: Node) -> bool:
        read = node.reads
        operator = operator_of(node)
        if operator.reads_shape:
            return any(name in self.varying for name in read)
        if (operator.has_body and not node.bodies) or node.domain == "ai.onnx.ml":
            return True
        return any(name in self.learned or _is_weight(graph, name) for name in read)

    def _varies(self, graph: Graph, node: Node) -> bool:
        operator = operator_of(node)
        if operator.reads_shape or _is_of_fixed_size(graph, node):
            return False
        if operator.result_size.counted and any(name in self.learned for name in node.inputs):
            return True
        stated = (node.operand(position) for position in operator.result_size.stated)
        if any(name in self.learned and name not in graph.folded for name in stated):
            return True
        read = node.inputs[:1] if operator.result_size.by_first else node.reads
        return any(name in self.varying for name in read)


def _is_weight(graph: Graph, name: str) -> bool:
    """Whether a tensor holds weights: a stored matrix or more, of floats or of coded ones."""
    if not graph.is_constant(name) or len(graph.constant_shape(name)) < 2:
        return False
    dtype = graph.constant_dtype(name)
    return dtype.kind in "fV" or (dtype.kind in "iu" and dtype.itemsize < _TABLE_ITEM)


def _is_of_fixed_size(graph: Graph, node: Node) -> bool:
    """Whether the node's own constants fix the size of its result, whatever that of its input is."""
    if node.op == "Reshape" and graph.is_constant(node.operand(1)):
        return bool((graph.constant(node.operand(1)) > 0).all())
    whole = node.op.startswith("Reduce") and not node.operand(1) and "axes" not in node.attributes
    return whole and not node.attributes.get("noop_with_empty_axes", 0)
