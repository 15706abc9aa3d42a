"""Kinds of models whose time depends on the sparsity alone, whatever the score."""

from __future__ import annotations

CONTROL = "dense, again"
ZEROED, ALIKE, ALLOCATED = KINDS = ("zeroed", "cut, every layer alike", "cut, sizes allocated")

_ZEROING = ("zeroed", "sparsegpt", "per matrix", "whole model", "per output", "movement")


def kind_of(method: str) -> str:
    """Kind of a model, by the name of the method that made it."""
    if any(word in method for word in _ZEROING):
        return ZEROED
    return ALLOCATED if "allocated" in method else ALIKE
