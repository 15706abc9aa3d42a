"""Operators that run graphs of their own: If, Loop and Scan. What a body gives has the axes of what it is outside."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.model import Link
from onnxmi.operators.context import RuleContext
from onnxmi.operators.operator import STANDARD, Key, Operator, ResultSize


def _body_axes(ctx: RuleContext) -> None:
    """What is outside of the bodies is tied to what is inside; of a body that is not shown, nothing is known."""
    if not ctx.node.bodies:
        ctx.freeze_all("runs a graph that is not looked into")
        return
    for body in ctx.node.bodies:
        for link in body.links:
            if link.inner not in ctx.probe.impossible:
                _tie(ctx, link)


def _tie(ctx: RuleContext, link: Link) -> None:
    outer, inner = ctx.tensor(link.outer), ctx.tensor(link.inner)
    if outer is None or inner is None:
        ctx.freeze(outer or inner or (), "changes its size in the body, or has a body that does not run")
        return
    if link.axis is not None:
        axis = link.axis % len(outer)
        ctx.freeze([outer[axis]], "iterates over it")
        outer = (*outer[:axis], *outer[axis + 1 :])
    if len(outer) != len(inner):
        ctx.freeze([*outer, *inner], "gives shapes that differ")
        return
    for one, other in zip(outer, inner, strict=True):
        if ctx.size(one) == ctx.size(other):
            ctx.unify(one, other)
        else:
            ctx.freeze([one, other], "gives sizes that differ")


_BODY = Operator(axes=_body_axes, has_body=True)

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "If"): _BODY,
    (STANDARD, "Loop"): Operator(axes=_body_axes, has_body=True, result_size=ResultSize(stated=(0, 1))),
    (STANDARD, "Scan"): _BODY,
}
