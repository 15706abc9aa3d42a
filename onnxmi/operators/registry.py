"""All operators that onnxmi knows: the tables of the families, put together."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from onnxmi.model import Node
from onnxmi.operators import (
    attention,
    control_flow,
    conv,
    einsum,
    elementwise,
    generators,
    indexing,
    matmul,
    normalization,
    ort_fused,
    pooling,
    quantized,
    recurrent,
    reduction,
    reshape,
    resize,
    slicing,
)
from onnxmi.operators.operator import Key, Operator

FAMILIES: tuple[ModuleType, ...] = (
    matmul,
    conv,
    einsum,
    attention,
    recurrent,
    elementwise,
    normalization,
    pooling,
    reduction,
    reshape,
    slicing,
    indexing,
    resize,
    generators,
    control_flow,
    quantized,
    ort_fused,
)
UNKNOWN = Operator()
"""What is known of an operator without a record."""


def merge(*tables: Mapping[Key, Operator]) -> dict[Key, Operator]:
    """Put tables together.

    Raises
    ------
    ValueError
        If an operator has two records.
    """
    merged: dict[Key, Operator] = {}
    for table in tables:
        twice = merged.keys() & table.keys()
        if twice:
            raise ValueError(f"two records for {sorted(twice)}")
        merged.update(table)
    return merged


OPERATORS: Mapping[Key, Operator] = merge(*(family.OPERATORS for family in FAMILIES))
"""(domain, operator) -> its record."""


def operator_of(node: Node) -> Operator:
    """Return the record of a node's operator; an empty one where there is none."""
    return OPERATORS.get((node.domain, node.op), UNKNOWN)
