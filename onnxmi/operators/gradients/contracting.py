"""Gradients of products: matrices, convolutions and sums over subscripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.gradients.vjp import Call, Gradients, Rule, folded_to
from onnxmi.operators.gradients.windows import Windows
from onnxmi.typing import Array


def turned(matrix: Array) -> Array:
    """Swap the last two axes."""
    return np.swapaxes(matrix, -1, -2)


def factors(call: Call, pair: Sequence[Array], upper: Array, flips: Sequence[int] = (0, 0)) -> list[Array | None]:
    """Gradients of both factors of a product of matrices, either turned first where its flip says so."""
    left, right = (turned(value) if flip else value for value, flip in zip(pair, flips, strict=True))
    made: list[Array | None] = [None, None]
    for place, (rows, columns) in enumerate(((upper, turned(right)), (turned(left), upper))):
        if place in call.wanted:
            product = np.matmul(rows, columns)
            made[place] = folded_to(turned(product) if flips[place] else product, pair[place].shape)
    return made


def operands(call: Call) -> tuple[Array, Array]:
    """Values of the first two operands."""
    return call.x, call.values(call.node.inputs[1])


def flips_of(call: Call) -> tuple[int, int]:
    """Whether each factor is turned."""
    return call.get("transA", 0), call.get("transB", 0)


def _matmul(call: Call) -> Gradients:
    left, right = operands(call)
    upper = call.g
    if left.ndim == 1:
        upper = upper[..., None, :] if right.ndim > 1 else upper[..., None]
    if right.ndim == 1:
        upper = upper[..., None]
    rows = left[None, :] if left.ndim == 1 else left
    columns = right[:, None] if right.ndim == 1 else right
    made = zip(factors(call, (rows, columns), upper), (left, right), strict=True)
    return [None if gradient is None else gradient.reshape(value.shape) for gradient, value in made]


def _gemm(call: Call) -> Gradients:
    added = call.operand(2)
    bias = folded_to(call.get("beta", 1.0) * call.g, added.shape) if 2 in call.wanted and added is not None else None
    return [*factors(call, operands(call), call.get("alpha", 1.0) * call.g, flips_of(call)), bias]


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


def _subscripts(node: Node) -> tuple[list[str], str]:
    """Letters of each operand of an Einsum, and of the result."""
    terms, _, result = "".join(node.attributes["equation"].split()).partition("->")
    return terms.split(","), result


def every_letter_comes_back(node: Node) -> bool:
    """Whether each letter of an operand of an Einsum is one of the result or of another operand, once in each."""
    letters, result = _subscripts(node)
    others = ("".join([result, *letters[:place], *letters[place + 1 :]]) for place in range(len(letters)))
    plain = all(len(set(term)) == len(term) and "." not in term for term in letters)
    return "->" in node.attributes["equation"] and plain and all(map(set.issubset, map(set, letters), map(set, others)))


def _einsum(call: Call) -> Gradients:
    letters, result = _subscripts(call.node)
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
