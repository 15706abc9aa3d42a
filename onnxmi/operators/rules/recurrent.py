"""Recurrent layers: a hidden unit is all its gates; it is consumed by the recurrence matrix and by what follows.

Masking the columns of the recurrence matrix is the same as masking the state where it re-enters, so the contraction is
declared on that (stored) operand.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxmi.operators.context import Rule, Site
from onnxmi.operators.rules.apply_signature import SignatureRule

_FIXED = {"s": "steps along it", "d": "runs in directions", "q": "has gates", "r": "has gates", "p": "has gates"}
_BIAS, _WEIGHT, _RECURRENCE = 3, 1, 2


@dataclass(frozen=True)
class _Recurrent:
    """A recurrent operator with so many gates; `layout` 1 puts the batch first."""

    gates: int
    tail: str = ""

    def __call__(self, site: Site) -> None:
        """Run the signature, and declare the recurrence."""
        first, states = ("s b", "d b h") if not site.attribute("layout", 0) else ("b s", "b d h")
        made = f"{first.replace('s', 's d') if first == 's b' else 'b s d'} h?"
        text = (
            f"{first} i, d (q h) i, d (q h) h, d (r h)?, b?, {states}?{self.tail.replace('@', states)}"
            f" -> {made}, {states}?, {states}?"
        )
        rule = SignatureRule(text, contracts=("i",), freezes=_FIXED, sizes={"h": "hidden_size"})
        rule(site)
        recurrence = site.operand(_RECURRENCE)
        if recurrence is not None:
            site.contract(_RECURRENCE, 2, recurrence[2])


RULES: dict[tuple[str, str], Rule] = {
    ("", "RNN"): _Recurrent(1),
    ("", "GRU"): _Recurrent(3),
    ("", "LSTM"): _Recurrent(4, ", @?, d (p h)?"),
}
