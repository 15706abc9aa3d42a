"""Broadcasting in numpy's way, as ties between terms."""

from __future__ import annotations

from onnxmi.operators.context import Site, Terms


def broadcast(site: Site, operand: Terms | None, result: Terms | None) -> None:
    """Tie an operand's axes to the result's, aligned at the right; axes of size one that are stretched stay free."""
    if operand is None or result is None:
        return
    if len(operand) > len(result):
        site.freeze([*operand, *result], "broadcasts in a way that is not understood")
        return
    for term, out in zip(reversed(operand), reversed(result), strict=False):
        if site.size(term) == site.size(out):
            site.unify(term, out)
        elif site.size(term) != 1:
            site.freeze([term, out], "broadcasts in a way that is not understood")


def elementwise(site: Site) -> None:
    """Every output's axes are those of the inputs, broadcast."""
    for out in site.outs:
        for operand in site.ins:
            broadcast(site, operand, out)
