"""Which operators of a float model onnxruntime runs in 8 bits, and which of them hang together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from onnxmi.model import Graph, Node
from onnxmi.quantization.recipe import HALF

# Mode -> operator -> the operand that is stored, for operators whose 8-bit kernels are fast on CPUs. A ConvInteger
# takes about five times as long as the float convolution, so dynamic quantization leaves convolutions float.
_WEIGHT: Mapping[str, Mapping[str, int]] = {
    "dynamic": {"MatMul": 1, "Gemm": 1, "Gather": 0},
    "static": {"Conv": 1, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1, "Gather": 0},
    "weights": {"MatMul": 1, "Gather": 0},
    HALF: {},
}
# Operators with 8-bit kernels that only pass on what 8-bit operators computed: between two of these they save a
# conversion to float and back.
_GLUE = frozenset(
    {
        *("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Pad"),
        *("Relu", "Reshape", "Resize", "Sigmoid", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)


@dataclass(frozen=True)
class Quantizable:
    """An operator that can be quantized.

    Attributes
    ----------
    name : str
        Of its node, which is unique.
    op : str
        Its type.
    elements : int
        Of its stored operand.
    in_blocks : bool
        Whether that can be 4-bit, too.
    """

    name: str
    op: str
    elements: int
    in_blocks: bool = False

    @property
    def is_table(self) -> bool:
        """Whether it only looks rows up: in 8 bits it is smaller, not faster."""
        return self.op == "Gather"


def quantizable(graph: Graph, mode: str) -> tuple[Quantizable, ...]:
    """Return the operators of a prepared model that can be quantized in a mode, in its order."""
    stored = ((node, name) for node in graph.nodes if (name := _stored_operand(graph, node, mode)))
    operators = (
        Quantizable(node.name, node.op, prod(graph.constant_shape(name)), _in_blocks(graph, node, name))
        for node, name in stored
    )
    return tuple(operator for operator in operators if operator.in_blocks or mode != "weights")


def _in_blocks(graph: Graph, node: Node, name: str) -> bool:
    """Whether a stored operand can be 4-bit: a matrix; of a table, with whole bytes in a row."""
    sizes = graph.constant_shape(name)
    if node.op == "Gather":
        return len(sizes) == 2 and sizes[1] % 2 == 0 and not node.attributes.get("axis", 0)
    return node.op == "MatMul" and len(sizes) == 2


def _stored_operand(graph: Graph, node: Node, mode: str) -> str:
    """Return the stored float operand of an operator that can be 8-bit; "" of another."""
    position = _WEIGHT[mode].get(node.op) if node.domain == "" else None
    name = "" if position is None else node.operand(position)
    if not name or not graph.is_constant(name) or graph.constant_dtype(name) != np.dtype(np.float32):
        return ""
    if node.op == "Gemm" and mode == "dynamic" and not _is_plain(node):
        return ""
    return name if len(graph.constant_shape(name)) >= 2 else ""


def _is_plain(node: Node) -> bool:
    """Whether a Gemm is a product and a sum; onnxruntime leaves others float when it quantizes dynamically."""
    factors = (node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0))
    return factors == (1.0, 1.0) and not node.attributes.get("transA", 0)


def glue_between(graph: Graph, int8: Collection[str]) -> Iterator[str]:
    """Yield the names of operators that compute from nothing but what 8-bit operators computed."""
    from_int8: set[str] = set()
    for node in graph.nodes:
        read = [name for name in node.inputs if name and not graph.is_constant(name)]
        if node.name in int8:
            from_int8.update(node.outputs)
        elif _is_glue(graph, node) and read and from_int8.issuperset(read):
            from_int8.update(node.outputs)
            yield node.name


def _is_glue(graph: Graph, node: Node) -> bool:
    """Whether an operator passes on 8-bit values; not a sum with a stored operand, whose rounding saves no time."""
    stored = node.op in ("Add", "Mul") and any(graph.is_constant(name) for name in node.inputs)
    return node.op in _GLUE and node.domain == "" and not stored


def in_groups(operators: Collection[Quantizable], most: int) -> tuple[tuple[str, ...], ...]:
    """Divide operators into at most so many groups, by place: tables, the first, the last, and stretches between.

    Tables are one group, since none of them changes the time. The first and the last product are alone: they are where
    rounding usually costs most.
    """
    tables = tuple(operator.name for operator in operators if operator.is_table)
    products = [operator.name for operator in operators if not operator.is_table]
    if len(products) <= 2:
        stretches = [[name] for name in products]
    else:
        middle = products[1:-1]
        count = min(max(most - 3, 1), len(middle))
        bounds = np.linspace(0, len(middle), count + 1).round().astype(int)
        inner = [middle[start:end] for start, end in pairwise(bounds)]
        stretches = [products[:1], *inner, products[-1:]]
    return tuple(group for group in (tables, *map(tuple, stretches)) if group)
