"""What the values of tensors depend on: weights, and sizes that a network decides.

A cut changes only what is computed with weights. Where such values decide a size (how many boxes are kept, how long
the speech is), two models answer with tensors of different sizes, and elements cannot be compared one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxmi.model import Graph, Node

# Operators whose results have as many entries as the values of their inputs say.
_COUNTING = frozenset({"NonZero", "NonMaxSuppression", "Unique", "Compress", "StringSplit"})
# Operand positions that state sizes.
_STATED: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "Tile": (1,),
    "Slice": (1, 2, 4),
    "Resize": (2, 3),
    "Upsample": (1,),
    "Pad": (1,),
    "TopK": (1,),
    "OneHot": (1,),
    "Split": (1,),
    "CenterCropPad": (1,),
    "AffineGrid": (1,),
    "Col2Im": (1,),
    "MaxUnpool": (2,),
    "Loop": (0, 1),
}
# Operators whose results have the size of their first input, whatever the others are.
_SIZED_BY_FIRST = frozenset({"ScatterND", "ScatterElements", "Scatter", "TensorScatter"})
_SHAPES = frozenset({"Shape", "Size"})
_BODIES = frozenset({"If", "Loop", "Scan"})
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
        read = [name for name in (*node.inputs, *node.captures) if name]
        if node.op in _SHAPES:
            return any(name in self.varying for name in read)
        if node.op in _BODIES or node.domain == "ai.onnx.ml":
            return True
        return any(name in self.learned or _is_weight(graph, name) for name in read)

    def _varies(self, graph: Graph, node: Node) -> bool:
        if node.op in _SHAPES or _is_of_fixed_size(graph, node):
            return False
        if node.op in _COUNTING and any(name in self.learned for name in node.inputs):
            return True
        stated = (node.operand(position) for position in _STATED.get(node.op, ()))
        if any(name in self.learned and name not in graph.folded for name in stated):
            return True
        read = node.inputs[:1] if node.op in _SIZED_BY_FIRST else (*node.inputs, *node.captures)
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
