"""Operators that slide a window over the spatial axes and treat every channel alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.kernel_windows import KernelWindows
from onnxmi.operators.operator import STANDARD, Key, Operator, later_outputs
from onnxmi.operators.reduction import equal_shares, winner_shares
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext, VjpRule

# -- how axes are tied -------------------------------------------------------------------------------------------------

POOLED = {"*s": "pools over it", "*t": "pools over it"}
_POOL = SignatureRule("n c *s -> n c *t", freezes=POOLED)
_MAX_POOL = SignatureRule("n c *s -> n c *t, n c *t?", freezes=POOLED)


# -- gradient ----------------------------------------------------------------------------------------------------------


def _max_pool_vjp(ctx: VjpContext) -> Gradients:
    """To the largest element of each window; to the first of equal ones."""
    windows = KernelWindows.of(ctx, ctx.x.shape, ctx.node.attributes["kernel_shape"], ctx.g.shape[2:])
    padded = windows.padded(ctx.x, -np.inf)
    gradient = windows.empty(ctx.x.shape[:2], ctx.g.dtype)
    left = ctx.g.copy()
    for _, cut in windows:
        won = padded[cut] == ctx.y
        gradient[cut] += np.where(won, left, 0.0)
        left[won] = 0.0
    return ctx.first_only(windows.cropped(gradient))


def _average_pool_vjp(ctx: VjpContext) -> Gradients:
    windows = KernelWindows.of(ctx, ctx.x.shape, ctx.node.attributes["kernel_shape"], ctx.g.shape[2:])
    gradient = windows.empty(ctx.x.shape[:2], ctx.g.dtype)
    counts = windows.counts(padding=bool(ctx.get("count_include_pad", 0)))
    for _, cut in windows:
        gradient[cut] += ctx.g / counts
    return ctx.first_only(windows.cropped(gradient))


def _global_pool_vjp(*, winner: bool) -> VjpRule:
    """A pool over the whole image."""

    def rule(ctx: VjpContext) -> Gradients:
        axes = tuple(range(2, ctx.x.ndim))
        share = winner_shares(ctx, ctx.y, axes) if winner else equal_shares(ctx, ctx.y, axes)
        return ctx.first_only(np.asarray(ctx.g * np.broadcast_to(share, ctx.x.shape), dtype=ctx.g.dtype))

    return rule


def _counts_windows(node: Node) -> bool:
    """Windows that hang over the end and count padding are averaged in a way that is not known."""
    return not (node.attributes.get("ceil_mode", 0) and node.attributes.get("count_include_pad", 0))


# -- records -----------------------------------------------------------------------------------------------------------

_ONE_POOL = Operator(axes=_POOL)

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "AveragePool"): Operator(axes=_POOL, vjp=Vjp(_average_pool_vjp, supports=_counts_windows)),
    (STANDARD, "GlobalAveragePool"): Operator(axes=_POOL, vjp=Vjp(_global_pool_vjp(winner=False))),
    (STANDARD, "GlobalMaxPool"): Operator(axes=_POOL, vjp=Vjp(_global_pool_vjp(winner=True))),
    (STANDARD, "GlobalLpPool"): _ONE_POOL,
    (STANDARD, "LpPool"): _ONE_POOL,
    (STANDARD, "MaxPool"): Operator(axes=_MAX_POOL, vjp=Vjp(_max_pool_vjp), piecewise_constant=later_outputs),
}
