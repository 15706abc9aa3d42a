"""Operators that slide over the spatial axes and treat every channel alike."""

from __future__ import annotations

from onnxmi.operators.context import Rule
from onnxmi.operators.rules.apply_signature import SignatureRule

_POOL = SignatureRule("n c *s -> n c *t", freezes={"*s": "pools over it", "*t": "pools over it"})
_MAX_POOL = SignatureRule("n c *s -> n c *t, n c *t?", freezes={"*s": "pools over it", "*t": "pools over it"})

RULES: dict[tuple[str, str], Rule] = {
    **{("", op): _POOL for op in ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "LpPool")},
    ("", "MaxPool"): _MAX_POOL,
}
