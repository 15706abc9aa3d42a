"""The operators' rules, by family. An operator that is in no table freezes every axis it touches."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.dims.rules import elementwise, linear, normalisation, pooling, reduction, shaping
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
    elementwise.RULES, linear.RULES, normalisation.RULES, pooling.RULES, reduction.RULES, shaping.RULES
)
