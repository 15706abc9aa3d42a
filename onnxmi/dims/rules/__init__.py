"""The operators' rules, by family. An operator that is in no table freezes every axis it touches."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.dims.rules import (
    attention,
    einsum,
    elementwise,
    indexing,
    linear,
    making,
    normalisation,
    pooling,
    quantised,
    recurrent,
    reduction,
    shaping,
    spatial,
    windows,
)
from onnxmi.dims.site import Rule

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
    making.RULES,
    normalisation.RULES,
    pooling.RULES,
    quantised.RULES,
    recurrent.RULES,
    reduction.RULES,
    shaping.RULES,
    spatial.RULES,
    windows.RULES,
)
