"""Convolutions: Conv, ConvTranspose and DeformConv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from math import prod
from typing import Any, ClassVar

import numpy as np

from onnxmi.axes.terms import Axes
from onnxmi.model import Node
from onnxmi.operators.context import RuleContext
from onnxmi.operators.kernel_windows import KernelWindows
from onnxmi.operators.layout import MatrixLayout, MatrixTerms, OperatorShape
from onnxmi.operators.macs import RESULT, MacContext, Work
from onnxmi.operators.matmul import swap_last_axes
from onnxmi.operators.operator import STANDARD, Key, Operator
from onnxmi.operators.patches import Window, count, gather, window
from onnxmi.operators.signature_rule import SignatureRule
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext
from onnxmi.typing import Array, Ints, Shape

# -- how axes are tied -------------------------------------------------------------------------------------------------

SLIDES = {"*s": "slides over it", "*t": "slides over it"}
GROUPS = {"g": "group"}

_CONV = SignatureRule("n (g c) *s, (g o) c *k, (g o)? -> n (g o) *t", contracts=("c",), freezes=SLIDES, sizes=GROUPS)
_CONV_TRANSPOSE = SignatureRule(
    "n (g c) *s, (g c) o *k, (g o)? -> n (g o) *t", contracts=("c",), freezes=SLIDES, sizes=GROUPS
)
_DEFORM_CONV = SignatureRule(
    "n (g c) *s, (g o) c *k, n _ *t, (g o)?, n _ *t? -> n (g o) *t", contracts=("c",), freezes=SLIDES, sizes=GROUPS
)


def _deform_conv_axes(ctx: RuleContext) -> None:
    """Positions are shifted for each offset group of the input channels: with several, those cannot be cut."""
    operand = ctx.operand(0)
    if operand is not None and int(ctx.attribute("offset_group", 1)) > 1:
        ctx.freeze([operand[1]], "shifts groups of it")
    _DEFORM_CONV(ctx)


# -- matrix layout -----------------------------------------------------------------------------------------------------


class ConvRows(MatrixLayout):
    """One row a position: its features are the patch under the kernel; weights (M, K of a group, *kernel)."""

    attributes: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("strides", "dilations", "pads", "output_padding")),
        "group": 1,
        "auto_pad": "NOTSET",
    }
    channel_axis = 1
    weight_rank = None
    has_bias_after = False  # a vector lies along the last axis

    def output_axis(self, node: Node) -> int:
        """See `MatrixLayout.output_axis`."""
        return 0

    def kernel(self, weight: Shape) -> Shape:
        """See `MatrixLayout.kernel`."""
        return weight[2:]

    def terms(self, node: Node, weight: Axes, activation: Axes, result: Axes) -> MatrixTerms:
        """See `MatrixLayout.terms`."""
        return MatrixTerms(int(node.attributes.get("group", 1)), activation[1], result[1])

    def window(self, shape: OperatorShape, activation: Array) -> Window:
        """Return the window that slides over an activation."""
        return window(shape.node.attributes, shape.kernel, activation.shape[2:], transposed=False)

    def count(self, shape: OperatorShape, activation: Array) -> int:
        """See `MatrixLayout.count`."""
        return count(activation, self.window(shape, activation))

    def feature_rows(self, shape: OperatorShape, activation: Array, places: Ints) -> Array:
        """See `MatrixLayout.feature_rows`."""
        patches = gather(activation, self.window(shape, activation), places)
        rows: Array = patches.reshape(len(places), shape.groups, prod(patches.shape[1:]) // shape.groups)
        return rows.transpose(1, 0, 2)

    def result_rows(self, shape: OperatorShape, result: Array, places: Ints, groups: int) -> Array:
        """See `MatrixLayout.result_rows`."""
        samples, *where = np.unravel_index(places, (result.shape[0], *result.shape[2:]))
        index: tuple[Any, ...] = (samples, slice(None), *where)
        rows: Array = result[index].reshape(len(places), groups, result.shape[1] // groups)
        return rows.transpose(1, 0, 2)

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`."""
        return weights.reshape(shape.groups, weights.shape[0] // shape.groups, -1).transpose(0, 2, 1)

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`."""
        return matrix.transpose(0, 2, 1).reshape(weight_shape)


class ConvTransposeRows(ConvRows):
    """Weights (K of all groups, M of a group, *kernel)."""

    attributes: ClassVar[Mapping[str, Any]] = {**ConvRows.attributes, "output_shape": None}

    def why_not_requantized(self, node: Node) -> str | None:
        """See `MatrixLayout.why_not_requantized`: the outputs of a group lie on an axis that all groups share."""
        return "its weight is quantized in groups" if node.attributes.get("group", 1) != 1 else None

    def window(self, shape: OperatorShape, activation: Array) -> Window:
        """See `ConvRows.window`."""
        return window(shape.node.attributes, shape.kernel, activation.shape[2:], transposed=True)

    def to_matrix(self, shape: OperatorShape, weights: Array) -> Array:
        """See `MatrixLayout.to_matrix`."""
        grouped = weights.reshape(shape.groups, -1, weights.shape[1], prod(shape.kernel))
        return grouped.swapaxes(2, 3).reshape(shape.groups, -1, weights.shape[1])

    def to_weights(self, shape: OperatorShape, matrix: Array, weight_shape: Shape) -> Array:
        """See `MatrixLayout.to_weights`."""
        grouped = matrix.reshape(matrix.shape[0], -1, prod(shape.kernel), matrix.shape[-1])
        return grouped.swapaxes(2, 3).reshape(weight_shape)


# -- gradient ----------------------------------------------------------------------------------------------------------


def _grouped(array: Array, groups: int) -> Array:
    """(N, C, ...) as (N, groups, C / groups, positions)."""
    return array.reshape(array.shape[0], groups, array.shape[1] // groups, -1)


def conv_vjp(ctx: VjpContext) -> Gradients:
    """Of a convolution's input: every output hands its gradient to the patch it was made of."""
    weight, groups = ctx.values(ctx.node.inputs[1]), ctx.get("group", 1)
    windows = KernelWindows.of(ctx, ctx.x.shape, weight.shape[2:], ctx.g.shape[2:])
    upper = _grouped(ctx.g, groups)
    gradient = windows.empty(ctx.x.shape[:2], ctx.g.dtype)
    matrices = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, M, C, *kernel)
    for place, cut in windows:
        # One output channel a group, as in a depthwise convolution: a product of numbers, not of many tiny matrices.
        own = swap_last_axes(matrices[place])
        share = own * upper if upper.shape[2] == 1 else np.matmul(own, upper)
        gradient[cut] += share.reshape((*ctx.x.shape[:2], *ctx.g.shape[2:]))
    return ctx.first_only(windows.cropped(gradient))


def _conv_transpose_vjp(ctx: VjpContext) -> Gradients:
    weight, groups = ctx.values(ctx.node.inputs[1]), ctx.get("group", 1)
    seen = window(ctx.node.attributes, weight.shape[2:], ctx.x.shape[2:], transposed=True)
    windows = KernelWindows(seen.places, seen.kernel, seen.size, seen.strides, seen.dilations, seen.before)
    padded = windows.padded(ctx.g)
    matrices = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, C, M, *kernel)
    gradient = np.zeros(_grouped(ctx.x, groups).shape, ctx.g.dtype)
    for place, cut in windows:
        gradient += np.matmul(matrices[place], _grouped(padded[cut], groups))
    return ctx.first_only(gradient.reshape(ctx.x.shape))


# -- multiply-accumulates ----------------------------------------------------------------------------------------------


def conv_macs(ctx: MacContext, weight: int) -> Iterator[Work]:
    """Every entry of the result meets the weights of its output channel."""
    yield ctx.work((*ctx.axes(RESULT), *ctx.axes(weight)[1:]))


def conv_transpose_macs(ctx: MacContext) -> Iterator[Work]:
    """Every entry of the input meets the weights of its channel."""
    yield ctx.work((*ctx.axes(0), *ctx.axes(1)[1:]))


# -- records -----------------------------------------------------------------------------------------------------------

CONV = Operator(
    axes=_CONV,
    layouts=(ConvRows(),),
    vjp=Vjp(conv_vjp),
    macs=partial(conv_macs, weight=1),
    cost_class="convolution",
    convolves=True,
)
CONV_TRANSPOSE = Operator(
    axes=_CONV_TRANSPOSE,
    layouts=(ConvTransposeRows(),),
    vjp=Vjp(_conv_transpose_vjp),
    macs=conv_transpose_macs,
    cost_class="convolution",
    convolves=True,
)
DEFORM_CONV = Operator(axes=_deform_conv_axes, macs=partial(conv_macs, weight=1), convolves=True)

OPERATORS: Mapping[Key, Operator] = {
    (STANDARD, "Conv"): CONV,
    (STANDARD, "ConvTranspose"): CONV_TRANSPOSE,
    (STANDARD, "DeformConv"): DEFORM_CONV,
}
