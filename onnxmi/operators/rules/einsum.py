"""Einsum: its equation is its signature."""

from __future__ import annotations

import re
from functools import cache

from onnxmi.operators.context import Rule, Site
from onnxmi.operators.rules.apply_signature import SignatureRule

_LETTER = re.compile(r"\.\.\.|[A-Za-z]")


@cache
def signature(equation: str) -> SignatureRule | None:
    """Spell an equation as a signature; None where a letter stands twice in one operand (a diagonal)."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = [_LETTER.findall(text) for text in left.split(",")]
    if any(len(set(letters)) < len(letters) for letters in operands):
        return None
    every = [letter for letters in operands for letter in letters]
    made = _LETTER.findall(right) if arrow else sorted({x for x in every if every.count(x) == 1} | {"..."} & set(every))
    summed = tuple(sorted({letter for letter in every if letter not in made and letter != "..."}))
    text = ", ".join(" ".join(letters) for letters in operands)
    return SignatureRule(f"{text} -> {' '.join(made)}", contracts=summed)


def _einsum(site: Site) -> None:
    rule = signature(str(site.attribute("equation", "")))
    if rule is None:
        site.freeze_all("takes a diagonal")
    else:
        rule(site)


RULES: dict[tuple[str, str], Rule] = {("", "Einsum"): _einsum}
