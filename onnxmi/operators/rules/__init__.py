"""The operators' rules, by family. An operator that is in no table freezes every axis it touches."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.operators.context import Rule
from onnxmi.operators.rules import (
    attention,
    einsum,
    elementwise,
    generators,
    indexing,
    linear,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    reshape,
    resize,
    slicing,
)

Key = tuple[str, str]


def _merge(*tables: Mapping[Key, Rule]) -> dict[Key, Rule]:
    merged: dict[Key, Rule] = {}
    for table in tables:
        for key, rule in table.items():
            if key in merged:
                raise ValueError(f"two rules for {key}")
            merged[key] = rule
    return merged


RULES: Mapping[Key, Rule] = _merge(
    attention.RULES,
    einsum.RULES,
    elementwise.RULES,
    indexing.RULES,
    linear.RULES,
    generators.RULES,
    normalization.RULES,
    pooling.RULES,
    quantized.RULES,
    recurrent.RULES,
    reduction.RULES,
    reshape.RULES,
    resize.RULES,
    slicing.RULES,
)
