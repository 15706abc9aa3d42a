"""Operator signatures in einsum/einops spelling, parsed once into immutable values.

    n (g c) *s, (g o) c *k, (g o)? -> n (g o) *t

Operands are separated by commas, axes by spaces. A letter is one axis; `(g c)` is one axis that is the row-major
flattening of two; `*s` is all remaining axes, the same number wherever `*s` stands; `...` is leading axes that
broadcast; `~` alone is an operand that broadcasts onto the first output; `_` is an axis tied to nothing; a `?` after
an operand says that it may be absent, a `!` that it may be one number instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class AxisPattern:
    """One axis, or a run of axes: `kind` is "letters", "star" or "ellipsis"."""

    kind: str
    letters: tuple[str, ...]


@dataclass(frozen=True)
class OperandPattern:
    """The axes of one operand; `broadcasts` for `~`, `single` for `!`."""

    axes: tuple[AxisPattern, ...]
    optional: bool
    broadcasts: bool
    single: bool = False

    def expand(self, rank: int) -> list[AxisPattern] | None:
        """Return one pattern an axis for a tensor of this rank; None where the rank does not fit."""
        plain = sum(axis.kind == "letters" for axis in self.axes)
        spare = rank - plain
        if spare < 0 or (spare and plain == len(self.axes)):
            return None
        expanded: list[AxisPattern] = []
        for axis in self.axes:
            if axis.kind == "letters":
                expanded.append(axis)
                continue
            for place in range(spare):
                number = place if axis.kind == "star" else spare - 1 - place  # an ellipsis aligns at its right end
                expanded.append(AxisPattern(axis.kind, (f"{axis.letters[0]}{number}",)))
        return expanded


@dataclass(frozen=True)
class Signature:
    """A parsed signature."""

    inputs: tuple[OperandPattern, ...]
    outputs: tuple[OperandPattern, ...]


_TOKEN = re.compile(r"\.\.\.|\*\w+|\([\w ]+\)|\w+")


@cache
def parse(text: str) -> Signature:
    """Parse a signature; a ValueError names the operand that is not understood."""
    left, _, right = text.partition("->")
    return Signature(tuple(map(_operand, left.split(","))), tuple(map(_operand, right.split(","))))


def _operand(text: str) -> OperandPattern:
    text = text.strip()
    optional = text.endswith("?")
    body = text.removesuffix("?").strip()
    single = body.endswith("!")
    body = body.removesuffix("!").strip()
    if body == "~":
        return OperandPattern((), optional, broadcasts=True)
    if _TOKEN.sub("", body).strip():
        raise ValueError(f"not an operand signature: {text!r}")
    return OperandPattern(
        tuple(_axis(token) for token in _TOKEN.findall(body)), optional, broadcasts=False, single=single
    )


def _axis(token: str) -> AxisPattern:
    if token == "...":
        return AxisPattern("ellipsis", ("...",))
    if token.startswith("*"):
        return AxisPattern("star", (token,))
    return AxisPattern("letters", tuple(token.strip("()").split()))
