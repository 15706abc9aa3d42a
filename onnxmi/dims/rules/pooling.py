"""Operators that slide over the spatial axes and treat every channel alike."""

from __future__ import annotations

from onnxmi.dims.rules.apply_signature import SignatureRule
from onnxmi.dims.site import Rule

_POOL = SignatureRule("n c *s -> n c *t", freezes={"*s": "pools over it", "*t": "pools over it"})
_MAX_POOL = SignatureRule("n c *s -> n c *t, n c *t?", freezes={"*s": "pools over it", "*t": "pools over it"})

RULES: dict[tuple[str, str], Rule] = {
    **{("", op): _POOL for op in ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "LpPool")},
    ("", "MaxPool"): _MAX_POOL,
}
