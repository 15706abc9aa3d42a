"""Gradients of products: matrices, convolutions and sums over subscripts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxmi.gradients.call import Array, Call, Gradients, Rule, folded_to
from onnxmi.gradients.windows import Windows


def turned(matrix: Array) -> Array:
    """Swap the last two axes."""
    return np.swapaxes(matrix, -1, -2)


def _matmul(call: Call) -> Gradients:
    left, right = call.x, call.values(call.node.inputs[1])
    upper = call.g
    if left.ndim == 1:
        upper = upper[..., None, :] if right.ndim > 1 else upper[..., None]
    if right.ndim == 1:
        upper = upper[..., None]
    rows = left[None, :] if left.ndim == 1 else left
    columns = right[:, None] if right.ndim == 1 else right
    made: list[Array | None] = [None, None]
    if 0 in call.wanted:
        made[0] = folded_to(np.matmul(upper, turned(columns)), rows.shape).reshape(left.shape)
    if 1 in call.wanted:
        made[1] = folded_to(np.matmul(turned(rows), upper), columns.shape).reshape(right.shape)
    return made


def _gemm(call: Call) -> Gradients:
    alpha, flips = call.get("alpha", 1.0), (call.get("transA", 0), call.get("transB", 0))
    left, right = (turned(value) if flip else value for value, flip in zip(_pair(call), flips, strict=True))
    made: list[Array | None] = [None, None, None]
    for place, (rows, columns) in enumerate(((call.g, right.T), (left.T, call.g))):
        if place in call.wanted:
            product = alpha * (rows @ columns)
            made[place] = product.T if flips[place] else product
    added = call.operand(2)
    if 2 in call.wanted and added is not None:
        made[2] = folded_to(call.get("beta", 1.0) * call.g, added.shape)
    return made


def _pair(call: Call) -> tuple[Array, Array]:
    return call.x, call.values(call.node.inputs[1])


def _grouped(array: Array, groups: int) -> Array:
    """(N, C, ...) as (N, groups, C / groups, positions)."""
    return array.reshape(array.shape[0], groups, array.shape[1] // groups, -1)


def _conv(call: Call) -> Gradients:
    """Of a convolution's input: every output hands its gradient to the patch it was made of."""
    weight, groups = call.values(call.node.inputs[1]), call.get("group", 1)
    windows = Windows.of(call, call.x.shape, weight.shape[2:], call.g.shape[2:])
    upper = _grouped(call.g, groups)
    made = windows.empty(call.x.shape[:2], call.g.dtype)
    matrices = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, M, C, *kernel)
    for place, cut in windows:
        share = np.matmul(turned(matrices[place]), upper)
        made[cut] += share.reshape(*call.x.shape[:2], *call.g.shape[2:])
    return call.only(windows.cropped(made))


def _conv_transpose(call: Call) -> Gradients:
    weight, groups = call.values(call.node.inputs[1]), call.get("group", 1)
    windows = Windows.of(call, call.g.shape, weight.shape[2:], call.x.shape[2:])
    padded = windows.padded(call.g)
    matrices = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, C, M, *kernel)
    made = np.zeros(_grouped(call.x, groups).shape, call.g.dtype)
    for place, cut in windows:
        made += np.matmul(matrices[place], _grouped(padded[cut], groups))
    return call.only(made.reshape(call.x.shape))


def _max_pool(call: Call) -> Gradients:
    """To the largest element of each window; to the first of equal ones."""
    windows = Windows.of(call, call.x.shape, call.node.attributes["kernel_shape"], call.g.shape[2:])
    padded = windows.padded(call.x, -np.inf)
    made = windows.empty(call.x.shape[:2], call.g.dtype)
    left = call.g.copy()
    for _, cut in windows:
        won = padded[cut] == call.y
        made[cut] += np.where(won, left, 0.0)
        left[won] = 0.0
    return call.only(windows.cropped(made))


def _average_pool(call: Call) -> Gradients:
    windows = Windows.of(call, call.x.shape, call.node.attributes["kernel_shape"], call.g.shape[2:])
    made = windows.empty(call.x.shape[:2], call.g.dtype)
    counts = windows.counts(bool(call.get("count_include_pad", 0)))
    for _, cut in windows:
        made[cut] += call.g / counts
    return call.only(windows.cropped(made))


def _einsum(call: Call) -> Gradients:
    equation = "".join(call.node.attributes["equation"].split())
    terms, _, result = equation.partition("->")
    letters = terms.split(",")
    made: list[Array | None] = [None] * len(letters)
    for position in call.wanted:
        others = [place for place in range(len(letters)) if place != position]
        subscripts = ",".join([result, *(letters[place] for place in others)])
        values = [call.values(call.node.inputs[place]) for place in others]
        made[position] = np.einsum(f"{subscripts}->{letters[position]}", call.g, *values, optimize=True)
    return made


CONTRACTING: Mapping[str, Rule] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
}
